import type { FastifyBaseLogger } from 'fastify';
import { type FolderFile, findInFolder, listFolder } from './folder.ts';
import { isImmutable } from './immutable.ts';
import { buildRelease, type Release, type ReleaseSettings, serveAlone, whatIsMissing } from './release.ts';
import type { ServedFile } from './served-file.ts';

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

/** Between two looks, milliseconds. A folder that takes long to look at is looked at less often: some 2 % of the time. */
const [leastPauseMs, mostPauseMs, pausePerLook] = [500, 5000, 50];
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
  missing?: 'page' | 'later' | undefined;
}

export async function openReleases({ folder, settings, log }: ReleasesOptions): Promise<Releases> {
  const left = new Map<string, { file: ServedFile; sinceMs: number }>();
  const ahead = new Map<string, ServedFile>();
  let candidate: Candidate | undefined;
  let warnedOf: string | undefined;
  let timer: NodeJS.Timeout | undefined;
  let isClosed = false;

  const listing = await listFolder(folder);
  let current = await buildRelease(listing, settings);
  let version = versionOf(listing);
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
      candidate.missing = await whatIsMissing(candidate.release, settings);
      if (versionOf(await listFolder(folder)) !== now) return drop();
    }
    const { release, missing } = candidate;
    if (missing === 'page' || (missing === 'later' && ageMs < patienceMs)) {
      if (ageMs > patienceMs && warnedOf !== now)
        log.warn('files: the folder has no complete build, so the last one is still served');
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
    if (release !== undefined) closeUnused(packsOf(release.files.values()));
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
    ahead.clear();
    closeUnused(before);
    log.info({ files: release.files.size, kept: left.size }, 'files: a new release is served');
  }

  function* served(): Generator<ServedFile> {
    yield* current.files.values();
    for (const { file } of left.values()) yield file;
    yield* ahead.values();
  }
  const packsOf = (files: Iterable<ServedFile>) => new Set([...files].map(({ content }) => content.stored.pack));
  const packsInUse = () => packsOf(served());
  function closeUnused(packs: Iterable<ReturnType<typeof packsOf> extends Set<infer P> ? P : never>): void {
    const inUse = packsInUse();
    for (const pack of packs) if (!inUse.has(pack)) pack.close();
  }

  function lookLater(pauseMs: number): void {
    if (isClosed) return;
    timer = setTimeout(async () => {
      const startedAt = performance.now();
      await look().catch((error: NodeJS.ErrnoException) => {
        drop();
        if (error.code !== undefined) log.warn({ code: error.code }, 'files: the folder can’t be copied');
      });
      const pause = (performance.now() - startedAt) * pausePerLook;
      lookLater(candidate === undefined ? Math.min(Math.max(leastPauseMs, pause), mostPauseMs) : leastPauseMs);
    }, pauseMs).unref();
  }
  lookLater(leastPauseMs);

  return {
    find: (name) => current.files.get(name) ?? left.get(name)?.file ?? ahead.get(name),
    async findAhead(name) {
      if (!isImmutable(name, new Set())) return undefined;
      const found = await findInFolder(folder, name);
      // Not one that is being written.
      if (found === undefined || found.size === 0 || Date.now() - found.changedMs < settledMs / 2) return undefined;
      const file = await serveAlone(found, settings).catch(() => undefined);
      if (file === undefined) return undefined;
      const other = ahead.get(name);
      other?.content.stored.pack.close();
      ahead.set(name, file);
      return file;
    },
    close() {
      isClosed = true;
      clearTimeout(timer);
      drop();
      for (const pack of packsInUse()) pack.close();
    },
  };
}

function versionOf(listing: Map<string, FolderFile>): string {
  return [...listing].map(([name, { version }]) => `${name}\0${version}`).join('\n');
}
