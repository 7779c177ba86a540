import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { brotliCompress, brotliDecompress, constants, gunzip, gzip } from 'node:zlib';
import type { Coding } from './negotiate.ts';
import type { Stored } from './pack.ts';
import type { NoncePage } from './page.ts';

/** One form of a file, with a tag of its own (RFC 9110 §8.8.3.3). */
export interface Representation {
  body: Stored;
  etag: string;
  /** Of the whole answer. */
  headers: Record<string, string> & { 'content-security-policy': string };
  /** The same, flat. */
  lines: string[];
  /** Of a 304: without what describes a body. */
  unchangedHeaders: Record<string, string>;
}

export interface ServedFile {
  name: string;
  /** It has a hash in its name, and is worth keeping for who still has the page of an older release. */
  isImmutable: boolean;
  content: Content;
  /** A page that is made anew for each answer. */
  noncePage?: NoncePage;
  /** What is there already. */
  ready: Partial<Record<Coding, Representation>> & { identity: Representation };
  /** Bytes in this coding, made on demand; `undefined` when there is none that is worth it. */
  represent(coding: Coding): Promise<Representation | undefined>;
}

/** What a file holds, with its codings. The same bytes in two releases are one. */
export interface Content {
  stored: Stored;
  encoded: Partial<Record<Coding, Promise<Stored | undefined>>>;
}

export interface FileFacts {
  name: string;
  type: string;
  isImmutable: boolean;
  content: Content;
  /** What lies beside it as `.br` or `.gz`. */
  siblings: Partial<Record<Coding, Stored>>;
  /** Headers of security. */
  headers: Record<string, string> & { 'content-security-policy': string };
  noncePage?: NoncePage;
}

/** Smaller files gain nothing; larger ones (maps of maps, models) cost too much. Bytes. */
const [leastBytes, mostBytes] = [1024, 64 * 1024 * 1024];
/** The best that there is takes a second and more for each MiB. */
const mostBestBytes = 2 * 1024 * 1024;

const compressible =
  /^(text\/|application\/(javascript|json|wasm|xml|rtf|x-ndjson|vnd\.ms-fontobject|yaml|toml|sql|postscript)\b|[^;]*\+(json|xml|text)\b|font\/(ttf|otf|collection)|image\/(bmp|x-icon|vnd\.microsoft\.icon)|model\/)/;

export function createServedFile(facts: FileFacts): ServedFile {
  const { name, type, isImmutable, content, siblings, noncePage } = facts;
  const { stored } = content;
  const isCompressible =
    noncePage === undefined && compressible.test(type) && stored.size > leastBytes && stored.size <= mostBytes;
  const common = {
    ...facts.headers,
    'cache-control':
      noncePage !== undefined ? 'no-store' : isImmutable ? 'public, max-age=31536000, immutable' : 'no-cache',
    ...(isCompressible ? { vary: 'Accept-Encoding' } : {}),
  };
  const build = (body: Stored, coding: Coding): Representation => {
    const etag = `"${body.hash}"`;
    const headers = {
      ...common,
      'accept-ranges': 'bytes',
      ...(coding === 'identity' ? {} : { 'content-encoding': coding }),
      'content-length': String(body.size),
      'content-type': type,
      etag,
    };
    return {
      body,
      etag,
      headers,
      lines: Object.entries(headers).flat(),
      unchangedHeaders: { ...common, etag },
    };
  };
  const file: ServedFile = {
    name,
    isImmutable,
    content,
    ready: { identity: build(stored, 'identity') },
    ...(noncePage === undefined ? {} : { noncePage }),
    async represent(coding) {
      if (coding === 'identity') return file.ready.identity;
      if (!isCompressible) return undefined;
      content.encoded[coding] ??= encode(content, coding, siblings[coding]);
      const body = await content.encoded[coding];
      if (body !== undefined) file.ready[coding] ??= build(body, coding);
      return file.ready[coding];
    },
  };
  return file;
}

async function encode(content: Content, coding: 'br' | 'gzip', sibling?: Stored): Promise<Stored | undefined> {
  const { stored } = content;
  // Copied: the sibling may go in a later release, and the file stay.
  if (sibling !== undefined && (await isSame(stored, coding, sibling))) return stored.pack.add([await sibling.read()]);
  return inLine(async () => {
    const bytes = await compress(await stored.read(), coding);
    return bytes.length < stored.size * 0.95 ? stored.pack.add([bytes]) : undefined;
  }).catch(() => undefined); // the process is on its way out, or has no room: plain, then
}

/** Does it hold what the file does? One that a build forgot would be the last release for all browsers. */
async function isSame(stored: Stored, coding: 'br' | 'gzip', sibling: Stored): Promise<boolean> {
  if (sibling.size >= stored.size) return false;
  const options = { maxOutputLength: stored.size + 1 };
  const decompress = coding === 'br' ? promisify(brotliDecompress) : promisify(gunzip);
  const bytes = await decompress(await sibling.read(), options).catch(() => undefined);
  return bytes !== undefined && createHash('sha256').update(bytes).digest('base64url').startsWith(stored.hash);
}

/** In threads of libuv. One level for each size: all replicas make the same bytes, and so the same tags. */
function compress(bytes: Buffer, coding: 'br' | 'gzip'): Promise<Buffer> {
  if (coding === 'gzip') return promisify(gzip)(bytes, { level: 9 });
  const quality = bytes.length <= mostBestBytes ? constants.BROTLI_MAX_QUALITY : 6;
  const params = { [constants.BROTLI_PARAM_QUALITY]: quality, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length };
  return promisify(brotliCompress)(bytes, { params });
}

/** Two at a time: the other two threads of libuv are for DNS and files. */
const waiting: (() => void)[] = [];
let free = 2;

async function inLine<T>(work: () => Promise<T>): Promise<T> {
  if (free === 0) await new Promise<void>((resolve) => waiting.push(resolve));
  else free -= 1;
  try {
    return await work();
  } finally {
    const next = waiting.shift();
    if (next === undefined) free += 1;
    else next();
  }
}
