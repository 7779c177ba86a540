import { setTimeout as pause } from 'node:timers/promises';
import type { FastifyBaseLogger } from 'fastify';
import { type FolderFile, findInFolder, listFolder } from './folder.ts';
import { isImmutable } from './immutable.ts';
import type { Pack } from './pack.ts';
import {
  buildRelease,
  type Missing,
  type Release,
  type ReleaseSettings,
  serveAlone,
  whatIsMissing,
} from './release.ts';
import type { Content, ServedFile } from './served-file.ts';

/**
 * The release that is served, and what older ones left. The folder is looked at again and again, as nothing tells of a
 * change on network and overlay mounts. What stands there is served when it is complete, and then all of it at once: a
 * page comes with the files that it needs (W56).
 */
export interface Releases {
  /** `undefined`: no file has this name. */
  find(name: string): ServedFile | undefined;
  /** A file of a release that another process serves already. */
  findAhead(name: string): Promise<ServedFile | undefined>;
  close(): void;
}

export interface ReleasesOptions {
  folder: string;
  settings: ReleaseSettings;
  log: FastifyBaseLogger;
}

/** Between two looks, milliseconds. A folder that takes long to look at is looked at less often: 2 % of the time. */
const [idlePauseMs, idlePausePerLook] = [2000, 50];
/** The same while a build comes in: half of the time. */
const [busyPauseMs, busyPausePerLook] = [500, 1];
/** Nothing may have changed for so long, milliseconds: `cp` and `rsync` are at work. */
const settledMs = 2000;
/** And so long where a file is missing that may be loaded later. */
const patienceMs = 30_000;
/** What a release took away stays for those who have its page: until the next one, and so long at least. */
const keptMs = 24 * 60 * 60 * 1000;
/** Bytes of it. */
const mostKeptBytes = 256 * 1024 * 1024;
/** Copies in memory above this are worth a warning, bytes. */
const muchMemoryBytes = 64 * 1024 * 1024;

interface Candidate {
  version: string;
  sinceMs: number;
  release?: Release;
  missing?: Missing | undefined;
}

export async function openReleases({ folder, settings, log }: ReleasesOptions): Promise<Releases> {
  const left = new Map<string, { file: ServedFile; sinceMs: number }>();
  const ahead = new Map<string, ServedFile>();
  const copying = new Map<string, Promise<ServedFile | undefined>>();
  let candidate: Candidate | undefined;
  let warnedOf: string | undefined;
  let warnedFault: string | undefined;
  let timer: NodeJS.Timeout | undefined;
  let isClosed = false;

  let [version, current] = await openFirst(folder, settings);
  const bytes = [...current.files.values()].reduce((sum, { content }) => sum + content.stored.size, 0);
  if (bytes > muchMemoryBytes && [...current.files.values()].some(({ content }) => content.stored.pack.isInMemory))
    log.warn({ bytes }, 'files are kept in memory: give Cloakroom a folder for temporary files (TMPDIR)');

  async function look(): Promise<void> {
    const found = await listFolder(folder);
    const now = versionOf(found);
    if (now === version) return drop();
    if (candidate?.version !== now) {
      drop();
      candidate = { version: now, sinceMs: performance.now() };
      return;
    }
    const ageMs = performance.now() - candidate.sinceMs;
    if (ageMs < settledMs) return;
    if (candidate.release === undefined) {
      candidate.release = await buildRelease(found, settings, current);
      candidate.missing = await whatIsMissing(candidate.release, settings, current);
      if (versionOf(await listFolder(folder)) !== now) return drop();
    }
    const { release, missing } = candidate;
    if (missing?.kind === 'page' || (missing?.kind === 'later' && ageMs < patienceMs)) {
      if (ageMs > patienceMs && warnedOf !== now)
        log.warn({ missing: missing.name }, 'files: the folder has no complete build, so the last one is still served');
      if (ageMs > patienceMs) warnedOf = now;
      return;
    }
    if (isClosed) return;
    candidate = undefined;
    version = now;
    serve(release);
  }

  /** What was made of a copy that went on is of no use any more. */
  function drop(): void {
    const { release } = candidate ?? {};
    candidate = undefined;
    if (release !== undefined) closeUnused(packsOf(contentsOf(release)));
  }

  function serve(release: Release): void {
    const before = [...packsInUse()];
    const nowMs = performance.now();
    for (const [name, { sinceMs }] of left) if (nowMs - sinceMs > keptMs) left.delete(name);
    for (const [name, file] of current.files)
      if (file.isImmutable && !release.files.has(name)) left.set(name, { file, sinceMs: nowMs });
    for (const name of left.keys()) if (release.files.has(name)) left.delete(name);
    let bytes = 0;
    for (const [name, { file }] of [...left].reverse()) {
      bytes += file.content.stored.size;
      if (bytes > mostKeptBytes) left.delete(name);
    }
    current = release;
    warnedFault = undefined;
    ahead.clear();
    closeUnused(before);
    log.info({ files: release.files.size, kept: left.size }, 'files: a new release is served');
  }

  function* served(): Generator<Content> {
    yield* contentsOf(current);
    for (const { file } of left.values()) yield file.content;
    for (const { content } of ahead.values()) yield content;
  }
  const packsInUse = () => packsOf(served());
  function closeUnused(packs: Iterable<Pack>): void {
    const inUse = packsInUse();
    for (const pack of packs) if (!inUse.has(pack)) pack.close();
  }

  async function copyAhead(name: string): Promise<ServedFile | undefined> {
    const found = await findInFolder(folder, name);
    // Not one that is being written.
    if (found === undefined || found.size === 0 || Date.now() - found.changedMs < settledMs / 2) return undefined;
    const file = await serveAlone(found, settings).catch(() => undefined);
    if (file !== undefined) ahead.set(name, file);
    return file;
  }

  function lookLater(pauseMs: number): void {
    if (isClosed) return;
    timer = setTimeout(async () => {
      const startedAt = performance.now();
      try {
        await look();
      } catch (error) {
        drop();
        const { code } = error as NodeJS.ErrnoException; // without one it was a file that changed meanwhile
        if (code !== undefined && code !== warnedFault)
          log.warn({ code }, isRoomFault(code) ? noRoom : 'files: the folder can’t be copied');
        warnedFault = code ?? warnedFault;
      }
      const spentMs = performance.now() - startedAt;
      const isBusy = candidate !== undefined && performance.now() - candidate.sinceMs < patienceMs;
      lookLater(
        isBusy ? Math.max(busyPauseMs, spentMs * busyPausePerLook) : Math.max(idlePauseMs, spentMs * idlePausePerLook),
      );
    }, pauseMs).unref();
  }
  lookLater(idlePauseMs);

  return {
    find: (name) => current.files.get(name) ?? left.get(name)?.file ?? ahead.get(name),
    async findAhead(name) {
      if (!isImmutable(name, new Set())) return undefined;
      // Who asks at the same time gets the same copy.
      const copied = copying.get(name) ?? copyAhead(name).finally(() => copying.delete(name));
      copying.set(name, copied);
      return copied;
    },
    close() {
      isClosed = true;
      clearTimeout(timer);
      drop();
      for (const pack of packsInUse()) pack.close();
    },
  };
}

const noRoom =
  'files: no room for a copy of the folder where temporary files lie (TMPDIR): give it twice the size of a build';

function isRoomFault(code: string | undefined): boolean {
  return code !== undefined && ['ENOSPC', 'EDQUOT', 'EFBIG'].includes(code);
}

/** What is there when we start, whole or not. A build that is being written is waited for. */
async function openFirst(folder: string, settings: ReleaseSettings): Promise<[string, Release]> {
  for (const endMs = performance.now() + patienceMs; ; ) {
    const listing = await listFolder(folder);
    try {
      return [versionOf(listing), await buildRelease(listing, settings)];
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (isRoomFault(code)) throw new Error(noRoom);
      if ((code !== undefined && code !== 'ENOENT') || performance.now() > endMs) throw error;
    }
    await pause(busyPauseMs);
  }
}

function* contentsOf({ sources }: Release): Generator<Content> {
  for (const { content } of sources.values()) yield content;
}

function packsOf(contents: Iterable<Content>): Set<Pack> {
  return new Set([...contents].map(({ stored }) => stored.pack));
}

function versionOf(listing: Map<string, FolderFile>): string {
  return [...listing].map(([name, { version }]) => `${name}\0${version}`).join('\n');
}
