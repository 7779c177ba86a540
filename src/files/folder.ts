import { constants, type Dirent } from 'node:fs';
import { type FileHandle, open, readdir, realpath, stat } from 'node:fs/promises';
import { join, sep } from 'node:path';

/** A file that stands in the folder, where it really lies. */
export interface FolderFile {
  /** Below the folder, as a path of a URL that was decoded. */
  name: string;
  path: string;
  size: number;
  /** When it was last written, renamed or given other rights, epoch milliseconds. Nobody can set it. */
  changedMs: number;
  /**
   * Other after each change. Reproducible builds and `rsync -t` leave length and date as they were (W55): the inode and
   * its time of change are not theirs to set.
   */
  version: string;
}

/** Folders whose names begin with a dot, and which are looked into all the same (RFC 8615; what Vite says of a build). */
const namedDotFolders = ['.well-known', '.vite'];

/**
 * The files of a folder by their names. A name is only ever compared: as a route `:id` or `star*` would stand for other
 * paths too. A link may lead to another place of the folder, as all names do where Kubernetes mounts a ConfigMap, but
 * nowhere else. The folder itself may be a link that is led to another build. Empty when there is none.
 */
export async function listFolder(folder: string): Promise<Map<string, FolderFile>> {
  const files = new Map<string, FolderFile>();
  const root = await realpath(folder).catch((error) => absent(error, undefined));
  if (root !== undefined) await collect({ root, files }, root, '', []);
  return files;
}

interface Collection {
  root: string;
  files: Map<string, FolderFile>;
}

/** `above`: the real folders that lead here; a link to one of them would go round for ever. */
async function collect({ root, files }: Collection, path: string, name: string, above: string[]): Promise<void> {
  if (above.includes(path)) return;
  const entries = await readdir(path, { withFileTypes: true }).catch((error): Dirent[] => absent(error, []));
  for (const entry of entries) {
    if (entry.name.startsWith('.') && !(name === '' && namedDotFolders.includes(entry.name))) continue;
    const found = await lookAt(root, join(path, entry.name), entry.isSymbolicLink());
    const below = name === '' ? entry.name : `${name}/${entry.name}`;
    if (found?.kind === 'folder') await collect({ root, files }, found.path, below, [...above, path]);
    else if (found !== undefined) files.set(below, { ...found.file, name: below });
  }
}

type Found = { kind: 'file'; file: FolderFile } | { kind: 'folder'; path: string };

/** What this is, where it really lies; `undefined` for what lies elsewhere, and for pipes, sockets and devices. */
async function lookAt(root: string, at: string, mayLead: boolean): Promise<Found | undefined> {
  try {
    const path = mayLead ? await realpath(at) : at;
    if (path !== root && !path.startsWith(root.endsWith(sep) ? root : root + sep)) return undefined;
    const found = await stat(path, { bigint: true });
    if (found.isDirectory()) return { kind: 'folder', path };
    if (!found.isFile()) return undefined;
    const { dev, ino, size, mtimeNs, ctimeNs } = found;
    const version = `${dev}.${ino}.${size}.${mtimeNs}.${ctimeNs}`;
    const file = { name: '', path, size: Number(size), changedMs: Number(ctimeNs / 1_000_000n), version };
    return { kind: 'file', file };
  } catch (error) {
    return absent(error, undefined); // a link to nowhere, or gone since
  }
}

/**
 * What a file that can't be had stands for. Anything else (no descriptors left, a mount that has gone stale) says nothing
 * about the folder: a release without what is below it would be served for a build.
 */
function absent<T>(error: unknown, value: T): T {
  if (/^(ENOENT|ENOTDIR|ELOOP|EACCES)$/.test(String((error as NodeJS.ErrnoException).code))) return value;
  throw error;
}

/** One file by its name, for who can't wait for the next look at the whole folder. */
export async function findInFolder(folder: string, name: string): Promise<FolderFile | undefined> {
  if (name.includes('\0') || name.split('/').some((part) => part === '' || part.startsWith('.'))) return undefined;
  const root = await realpath(folder).catch(() => undefined);
  const found = root === undefined ? undefined : await lookAt(root, join(root, name), true).catch(() => undefined);
  return found?.kind === 'file' ? { ...found.file, name } : undefined;
}

/** What the file holds, in pieces. Throws when it is not the file any more that was looked at (W17: links change). */
export async function* readPieces({ path, version }: FolderFile): AsyncGenerator<Buffer> {
  // Neither a link nor a pipe that has come into its place is followed or waited for.
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  try {
    await assertSame(handle, version);
    for (;;) {
      const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(256 * 1024), 0);
      if (bytesRead === 0) break;
      yield buffer.subarray(0, bytesRead);
    }
    await assertSame(handle, version);
  } finally {
    await handle.close();
  }
}

async function assertSame(handle: FileHandle, version: string): Promise<void> {
  const { dev, ino, size, mtimeNs, ctimeNs } = await handle.stat({ bigint: true });
  if (`${dev}.${ino}.${size}.${mtimeNs}.${ctimeNs}` !== version) throw new Error('a file changed while it was read');
}
