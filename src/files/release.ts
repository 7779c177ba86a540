import mime from 'mime';
import { nonceMark, type PolicyDirectives } from '../csp/policy.ts';
import { frameOptions, policyOf, withoutNonces } from '../csp/written.ts';
import { type FolderFile, readPieces } from './folder.ts';
import { isImmutable, listedFiles } from './immutable.ts';
import type { Coding } from './negotiate.ts';
import { openPack, type Pack } from './pack.ts';
import { inlineHashes, isWhole, laterFiles, neededFiles, splitAtNonces } from './page.ts';
import { type Content, createServedFile, type FileFacts, type ServedFile } from './served-file.ts';

/** What stood in the folder at one moment. */
export interface Release {
  /** By their names. */
  files: Map<string, ServedFile>;
  /** What was read, by name, with the version that was read. */
  sources: Map<string, { version: string; content: Content }>;
}

export interface ReleaseSettings {
  /** Of the frontend, without a final slash. */
  basePath: string;
  policy: PolicyDirectives;
  /** All others of an answer. */
  headers: Record<string, string>;
}

const index = 'index.html';
const manifests = ['.vite/manifest.json', 'manifest.json', 'asset-manifest.json'];

/** Copies what is new since `previous`. Throws when a file changes meanwhile, or there is no room. */
export async function buildRelease(
  listing: Map<string, FolderFile>,
  settings: ReleaseSettings,
  previous?: Release,
): Promise<Release> {
  const known = new Map([...(previous?.sources.values() ?? [])].map(({ content }) => [content.stored.hash, content]));
  const sources: Release['sources'] = new Map();
  let pack: Pack | undefined;
  try {
    for (const [name, found] of listing) {
      const before = previous?.sources.get(name);
      if (before?.version === found.version) {
        sources.set(name, before);
        continue;
      }
      pack ??= await openPack();
      const stored = await pack.add(readPieces(found));
      const content = known.get(stored.hash) ?? { stored, encoded: {} };
      known.set(stored.hash, content);
      sources.set(name, { version: found.version, content });
    }
    const files = await serveAll(sources, settings);
    const isUsed = [...sources.values()].some(({ content }) => content.stored.pack === pack);
    if (!isUsed) pack?.close();
    return { files, sources };
  } catch (error) {
    pack?.close();
    throw error;
  }
}

async function serveAll(sources: Release['sources'], settings: ReleaseSettings): Promise<Map<string, ServedFile>> {
  const listed = new Set<string>();
  for (const name of manifests) for (const one of listedFiles(await textOf(sources, name))) listed.add(one);
  const files = new Map<string, ServedFile>();
  for (const [name, { content }] of sources) {
    if (name.startsWith('.vite/')) continue;
    const siblings: Partial<Record<Coding, Content['stored']>> = {};
    for (const [coding, ending] of [
      ['br', '.br'],
      ['gzip', '.gz'],
    ] as const) {
      const beside = sources.get(name + ending);
      if (beside !== undefined) siblings[coding] = beside.content.stored;
    }
    const facts = { name, content, siblings, isImmutable: isImmutable(name, listed) };
    files.set(name, await serve(facts, settings));
  }
  return files;
}

/** One file, apart from all others. */
export async function serveAlone(found: FolderFile, settings: ReleaseSettings): Promise<ServedFile> {
  const pack = await openPack();
  try {
    const content = { stored: await pack.add(readPieces(found)), encoded: {} };
    // Whether it is all of it nobody can know yet: it must not stay for a year.
    return await serve({ name: found.name, content, siblings: {}, isImmutable: false }, settings);
  } catch (error) {
    pack.close();
    throw error;
  }
}

async function serve(
  facts: Pick<FileFacts, 'name' | 'content' | 'siblings' | 'isImmutable'>,
  { policy, headers }: ReleaseSettings,
): Promise<ServedFile> {
  const type = await typeOf(facts.name, facts.content);
  if (!/^(text\/html|application\/xhtml)/.test(type)) {
    const others = withoutNonces(policy);
    const ours = { ...headers, 'content-security-policy': policyOf(others), ...frameOptions(others) };
    return createServedFile({ ...facts, type, headers: ours });
  }
  const html = (await facts.content.stored.read()).toString('utf8');
  const written = policyOf(policy, inlineHashes(html));
  const ours = { ...headers, 'content-security-policy': written, ...frameOptions(policy) };
  const isNew = written.includes(nonceMark) ? { noncePage: splitAtNonces(html) } : {};
  return createServedFile({ ...facts, ...isNew, type, headers: ours });
}

/** Types that the registry of the library has otherwise, or that no ending tells. */
const ownTypes: Record<string, string> = { js: 'text/javascript', mjs: 'text/javascript', map: 'application/json' };

async function typeOf(name: string, { stored }: Content): Promise<string> {
  const base = name.slice(name.lastIndexOf('/') + 1);
  const ending = /\.(\w+)$/.exec(base)?.[1]?.toLowerCase();
  const isNamed = ending !== undefined && mime.getType(base) !== null;
  // Agreed names without an ending (RFC 8615): JSON is what apps and protocols read there, and text the rest.
  if (!isNamed && (name.startsWith('.well-known/') || base === 'apple-app-site-association')) {
    const text = stored.size > 1024 * 1024 ? '' : (await stored.read()).toString('utf8');
    return isJson(text) ? 'application/json' : 'text/plain; charset=utf-8';
  }
  const type = ownTypes[ending ?? ''] ?? mime.getType(base) ?? 'application/octet-stream';
  return type.startsWith('text/') ? `${type}; charset=utf-8` : type;
}

function isJson(text: string): boolean {
  try {
    return typeof JSON.parse(text) === 'object';
  } catch {
    return false;
  }
}

async function textOf(sources: Release['sources'], name: string): Promise<string> {
  return (await sources.get(name)?.content.stored.read())?.toString('utf8') ?? '';
}

/** What shows that a copy is not done. `page`: without it the page is blank; `later`: it may be missed, or never be there. */
export interface Missing {
  kind: 'page' | 'later';
  name: string;
}

/** @param previous the release that is served. What its page lacks too is somewhere else, or empty on purpose. */
export async function whatIsMissing(
  release: Release,
  { basePath }: ReleaseSettings,
  previous: Release,
): Promise<Missing | undefined> {
  const { files, sources } = release;
  const html = await textOf(sources, index);
  if (html === '') return { kind: 'page', name: index };
  const isHashed = (name: string) => isImmutable(name, new Set());
  const known = await lackedByPage(previous, basePath);
  const lacked = (await lackedByPage(release, basePath)).filter((name) => !known.includes(name));
  // Angular's style sheet may have nothing in it, and an API or the proxy in front may have a script of the page.
  const needed = lacked.find((name) => isHashed(name) && (!files.has(name) || !name.endsWith('.css')));
  if (needed !== undefined) return { kind: 'page', name: needed };
  const [other] = lacked;
  if (other !== undefined) return { kind: 'later', name: other };
  if (!isWhole(html)) return { kind: 'later', name: index };
  const listed = listedFiles(await textOf(sources, '.vite/manifest.json')).find((name) => !files.has(name));
  if (listed !== undefined) return { kind: 'later', name: listed };
  for (const { name, isImmutable: isBundled, content } of files.values()) {
    if (!isBundled || !/\.m?js$/.test(name) || content.stored.size > 4 * 1024 * 1024) continue;
    const script = (await content.stored.read()).toString('utf8');
    const later = laterFiles(script, name, isHashed).find((places) => !places.some((place) => files.has(place)));
    if (later !== undefined) return { kind: 'later', name: later[0] ?? name };
  }
  return undefined;
}

async function lackedByPage({ files, sources }: Release, basePath: string): Promise<string[]> {
  const needed = neededFiles(await textOf(sources, index), basePath);
  return needed.filter((name) => (files.get(name)?.content.stored.size ?? 0) === 0);
}
