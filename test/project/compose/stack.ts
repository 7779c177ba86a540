import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parse } from 'yaml';
import { until } from '../../support/wait.ts';
import type { createImageBuilder, Image } from './image.ts';

export interface Service {
  image: string;
  build?: string | { context: string; target?: string };
  command?: string[];
  environment?: Record<string, string>;
  volumes?: string[];
  ports?: string[];
  network_mode?: string;
  user?: string;
  read_only?: boolean;
  cap_drop?: string[];
  security_opt?: string[];
  healthcheck?: { test?: string[]; disable?: boolean };
  depends_on?: Record<string, { condition: 'service_healthy' | 'service_completed_successfully' }>;
}

export interface ComposeFile {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
}

export function readComposeFile(path: string): ComposeFile {
  return parse(readFileSync(path, 'utf8'), { merge: true });
}

export function buildTarget({ build }: Service): string | undefined {
  return typeof build === 'object' ? build.target : undefined;
}

export interface StackOptions {
  project: string;
  folder: string;
  compose: ComposeFile;
  builder: ReturnType<typeof createImageBuilder>;
  /** Turns host names, ports and the paths of containers into those of this machine; nothing else differs. */
  translate: (text: string, root: string) => string;
}

interface Running {
  child: ChildProcess;
  exited: Promise<number | null>;
  output: () => string;
}

/** Runs the services of a compose file as processes of this machine, in the order and on the conditions it gives. */
export function createStack({ project, folder, compose, builder, translate }: StackOptions) {
  const running = new Map<string, Running>();
  const starting = new Map<string, Promise<void>>();

  /** Starts a service after all it depends on. */
  function start(name: string): Promise<void> {
    const pending = starting.get(name) ?? launch(name);
    starting.set(name, pending);
    return pending;
  }

  async function launch(name: string): Promise<void> {
    const service = serviceOf(name);
    const before = Object.entries(service.depends_on ?? {});
    const owner = /^service:(.+)$/.exec(service.network_mode ?? '')?.[1];
    await Promise.all([...before.map(([other]) => start(other)), ...(owner === undefined ? [] : [start(owner)])]);
    await Promise.all(
      before.map(([other, { condition }]) =>
        condition === 'service_healthy' ? becomesHealthy(other) : succeeds(other),
      ),
    );
    const image = await imageOf(name);
    await mountVolumes(name, image);
    const command = service.command ?? image.command;
    if (command === undefined) throw new Error(`${name} has no command`);
    running.set(name, execute(name, image, command));
  }

  async function imageOf(name: string): Promise<Image> {
    const service = serviceOf(name);
    if (service.build !== undefined) return builder.build(buildTarget(service));
    // A public image: its program is this machine's own.
    const root = join(folder, `image-of-${name}`);
    await mkdir(root, { recursive: true });
    const { user = 'root' } = service;
    return { root, workdir: '/', env: {}, user, command: undefined, healthcheck: undefined, base: service.image };
  }

  /** Files and folders are copied to their place; a named volume is one folder for all that mount it. */
  async function mountVolumes(name: string, image: Image): Promise<void> {
    for (const volume of serviceOf(name).volumes ?? []) {
      const [source = '', target = ''] = volume.split(':');
      if (!source.startsWith('.')) {
        await mkdir(join(image.root, target), { recursive: true });
        continue;
      }
      const to = join(image.root, target);
      await mkdir(dirname(to), { recursive: true });
      await cp(join(project, source), to, { recursive: true });
      if (/\.ya?ml$/.test(to)) await writeFile(to, translate(await readFile(to, 'utf8'), image.root));
    }
  }

  function execute(name: string, image: Image, command: string[]): Running {
    const [program = '', ...words] = command.map((word) => translate(word, image.root));
    const environment = Object.entries({ ...image.env, ...serviceOf(name).environment });
    const child = spawn(program, words, {
      cwd: join(image.root, image.workdir),
      // Nothing of the test's own environment but where the programs are.
      env: {
        PATH: `${dirname(process.execPath)}:${process.env.PATH}`,
        ...Object.fromEntries(environment.map(([key, value]) => [key, translate(String(value), image.root)])),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        output += chunk.toString();
      });
    }
    // Also when this process is ended in the middle of a test.
    const killAtExit = () => child.kill('SIGKILL');
    process.once('exit', killAtExit);
    const exited = new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', resolve);
    }).finally(() => process.off('exit', killAtExit));
    return { child, exited, output: () => output };
  }

  async function becomesHealthy(name: string): Promise<void> {
    const image = await imageOf(name);
    const [kind, ...command] = serviceOf(name).healthcheck?.test ?? ['CMD', ...(image.healthcheck ?? [])];
    if (kind !== 'CMD' || command.length === 0) throw new Error(`${name} has no health check that this test knows`);
    await until(
      async () => {
        const { child, output } = runningOf(name);
        if (child.exitCode !== null) throw new Error(`${name} exited with ${child.exitCode}:\n${output()}`);
        return (await execute(name, image, command).exited) === 0;
      },
      { timeoutMs: 30_000, message: `${name} to become healthy` },
    );
  }

  async function succeeds(name: string): Promise<void> {
    const { exited, output } = runningOf(name);
    const code = await exited;
    if (code !== 0) throw new Error(`${name} exited with ${code}:\n${output()}`);
  }

  /** As `docker stop`, with SIGTERM; returns the exit code. */
  async function stop(name: string): Promise<number | null> {
    const { child, exited } = runningOf(name);
    running.delete(name);
    starting.delete(name);
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
    child.kill('SIGTERM');
    const kill = setTimeout(() => child.kill('SIGKILL'), 10_000);
    const code = await exited;
    clearTimeout(kill);
    return code;
  }

  function serviceOf(name: string): Service {
    const service = compose.services[name];
    if (service === undefined) throw new Error(`docker-compose.yml has no service ${name}`);
    return service;
  }

  function runningOf(name: string): Running {
    const found = running.get(name);
    if (found === undefined) throw new Error(`${name} was not started`);
    return found;
  }

  return {
    start,
    becomesHealthy,
    stop,
    imageOf,
    /** What a container wrote to its log. */
    logOf: (name: string) => runningOf(name).output(),
    stopAll: () => Promise.all([...running.keys()].map(stop)),
  };
}
