import { readdir, realpath, stat } from 'node:fs/promises';
import { join, sep } from 'node:path';

/** Finds what a path stands for; `undefined`: no file of the folder, or none any more. */
export interface FileLookup {
  /** `path`: decoded, below the frontend's own, without the slash in front. Answers with the name below the folder. */
  find(path: string): Promise<string | undefined>;
}

/**
 * The files that stand in the folder now, by the path that asks for them. A name is only ever compared: as a route
 * `:id` or `star*` would stand for other paths too. A link may lead to another place of the folder, as all names do where
 * Kubernetes mounts a ConfigMap, but nowhere else; and it is looked at again with each request, because links change.
 */
export async function createFileLookup(folder: string): Promise<FileLookup> {
  const root = await realpath(folder);
  const files = new Map<string, string>();
  await collect(root, '', [], files);
  return {
    async find(path) {
      const name = files.get(path);
      return name !== undefined && (await kindInside(root, name))?.kind === 'file' ? name : undefined;
    },
  };
}

/** `above`: the real folders that lead here; a link to one of them would go round for ever. */
async function collect(root: string, folder: string, above: string[], files: Map<string, string>): Promise<void> {
  const here = await kindInside(root, folder);
  if (here?.kind !== 'folder' || above.includes(here.path)) return;
  for (const entry of await readdir(here.path)) {
    if (entry.startsWith('.')) continue;
    const name = folder === '' ? entry : `${folder}/${entry}`;
    const found = await kindInside(root, name);
    if (found?.kind === 'folder') await collect(root, name, [...above, here.path], files);
    if (found?.kind !== 'file') continue;
    files.set(name, name);
    if (entry === 'index.html') files.set(folder === '' ? '' : `${folder}/`, name);
  }
}

/** What this is, where it really lies; `undefined` for what lies elsewhere, and for pipes, sockets and devices. */
async function kindInside(root: string, name: string): Promise<{ kind: 'file' | 'folder'; path: string } | undefined> {
  try {
    const path = await realpath(join(root, name));
    if (path !== root && !path.startsWith(root.endsWith(sep) ? root : root + sep)) return undefined;
    const found = await stat(path);
    return found.isFile() ? { kind: 'file', path } : found.isDirectory() ? { kind: 'folder', path } : undefined;
  } catch {
    return undefined; // a link to nowhere, or gone since
  }
}
