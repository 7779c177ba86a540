import { execFile } from 'node:child_process';
import { cp, mkdir, readFile, rm, stat, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { type Instruction, readDockerfile, type Stage } from './dockerfile.ts';

const run = promisify(execFile);

/** What `docker build` would make of a stage, as a folder that stands for the image's root. */
export interface Image {
  root: string;
  /** Working directory inside the image: `/app`. */
  workdir: string;
  env: Record<string, string>;
  user: string;
  command: string[] | undefined;
  healthcheck: string[] | undefined;
  /** The public image that it stands on. */
  base: string;
}

/** Removes what an image of Node brings for installing packages: nothing that a folder on this machine has. */
const IMAGE_ONLY = /^rm -rf( \/(usr\/local|opt)\/\S+)+$/;

/**
 * Builds the stages of a Dockerfile in folders, without Docker: COPY copies, from what .dockerignore lets through; RUN
 * runs, except that `npm ci` takes the packages from this project's own node_modules, as the lockfile lists them.
 */
export function createImageBuilder(project: string, folder: string) {
  const stages = readDockerfile(join(project, 'Dockerfile'));
  const built = new Map<Stage, Promise<Image>>();

  function build(target: string | undefined): Promise<Image> {
    const stage = target === undefined ? stages.at(-1) : stages.find(({ name }) => name === target);
    if (stage === undefined) throw new Error(`the Dockerfile has no stage ${target}`);
    const image = built.get(stage) ?? buildStage(stage);
    built.set(stage, image);
    return image;
  }

  async function buildStage(stage: Stage): Promise<Image> {
    const root = join(folder, stage.name ?? 'product');
    const parent = stages.some(({ name }) => name === stage.base) ? await build(stage.base) : undefined;
    const image: Image = {
      ...{ workdir: '/', env: {}, user: 'root', command: undefined, healthcheck: undefined, base: stage.base },
      ...parent,
      root,
    };
    await mkdir(root, { recursive: true });
    if (parent) await run('cp', ['-R', `${parent.root}/.`, root]);
    for (const instruction of stage.instructions) await apply(instruction, image);
    return image;
  }

  async function apply({ name, flags, words, text }: Instruction, image: Image): Promise<void> {
    const here = join(image.root, image.workdir);
    switch (name) {
      case 'WORKDIR':
        image.workdir = words[0] ?? '/';
        await mkdir(join(image.root, image.workdir), { recursive: true });
        return;
      case 'COPY': {
        const from = flags.has('from') ? (await build(flags.get('from'))).root : await contextFolder();
        const [target = '', ...sources] = words.toReversed();
        for (const source of sources) {
          const found = join(from, source);
          // Of a folder the content is copied, into the target.
          const isFolder = (await stat(found)).isDirectory();
          const to = join(target.startsWith('/') ? image.root : here, target);
          await mkdir(isFolder || target.endsWith('/') || sources.length > 1 ? to : dirname(to), { recursive: true });
          // Not fs.cp, which takes ten times as long for a folder like node_modules.
          await run('cp', ['-R', isFolder ? `${found}/.` : found, to]);
        }
        return;
      }
      case 'RUN':
        if (words[0] === 'npm' && words[1] === 'ci') return installPackages(here, words.slice(2));
        if (IMAGE_ONLY.test(text)) return;
        if (words[0] !== 'npm' || words[1] !== 'run') throw new Error(`this test does not dare to run: ${text}`);
        await run('npm', words.slice(1), { cwd: here });
        return;
      case 'ENV':
        for (const [, key, value] of text.matchAll(/(\w+)=(\S+)/g)) image.env[key as string] = value as string;
        return;
      case 'USER':
        image.user = text;
        return;
      case 'CMD':
        image.command = words;
        return;
      case 'HEALTHCHECK':
        image.healthcheck = words;
        return;
    }
  }

  /** The build context: what .dockerignore leaves of the project. */
  let context: Promise<string> | undefined;
  function contextFolder(): Promise<string> {
    context ??= (async () => {
      const lines = (await readFile(join(project, '.dockerignore'), 'utf8'))
        .split('\n')
        .filter((line) => /^[^#]/.test(line));
      if (lines.shift() !== '*') throw new Error('.dockerignore must begin with * and list what is let through');
      const root = join(folder, 'context');
      for (const line of lines) {
        if (!/^![\w./-]+$/.test(line)) throw new Error(`.dockerignore: this test does not know ${line}`);
        await mkdir(dirname(join(root, line.slice(1))), { recursive: true });
        await cp(join(project, line.slice(1)), join(root, line.slice(1)), { recursive: true });
      }
      return root;
    })();
    return context;
  }

  async function installPackages(here: string, options: string[]): Promise<void> {
    const { scripts } = JSON.parse(await readFile(join(here, 'package.json'), 'utf8'));
    const lock = JSON.parse(await readFile(join(here, 'package-lock.json'), 'utf8'));
    const [, script] = /^node (\S+)$/.exec(scripts.postinstall) ?? [];
    if (!options.includes('--ignore-scripts')) await stat(join(here, script ?? 'package.json has no postinstall'));
    if (!options.includes('--omit=dev')) return symlink(join(project, 'node_modules'), join(here, 'node_modules'));
    // Else npm wants their folders.
    if (!options.includes('--workspaces=false')) throw new Error('the image has none of the workspaces');
    const packages = Object.entries<{ dev?: boolean; optional?: boolean; devOptional?: boolean; link?: boolean }>(
      lock.packages,
    )
      .filter(
        ([path, { dev, optional, devOptional, link }]) => path !== '' && !(dev || optional || devOptional || link),
      )
      // Those nested in another package come along with it.
      .filter(([path]) => path.lastIndexOf('node_modules/') === 0)
      .map(([path]) => path);
    for (const [parent, paths] of Map.groupBy(packages, dirname)) {
      await mkdir(join(here, parent), { recursive: true });
      await run('cp', ['-R', ...paths.map((path) => join(project, path)), join(here, parent)]);
    }
  }

  return { stages, build, clear: () => rm(folder, { recursive: true, force: true }) };
}
