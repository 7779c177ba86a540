import { createHash, randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { LRUCache } from 'lru-cache';

/**
 * Our own copy of what is served: it survives `rm -rf` of the folder and whatever is written over its files. It lies in
 * one temporary file without a name, which nobody else can open and the kernel takes away with us; in memory where
 * nothing may be written (`docker run --read-only`).
 */
export interface Pack {
  isInMemory: boolean;
  add(pieces: AsyncIterable<Buffer> | Iterable<Buffer>): Promise<Stored>;
  /** After what is being sent from it. */
  close(): void;
}

/** A string has a byte in each character (latin1): Node sends it with the head in one write, which is half the work. */
export type AtHand = Buffer | string;

/** Bytes that never change. */
export interface Stored {
  pack: Pack;
  size: number;
  /** Made of the bytes alone, so that all replicas say the same: SHA-256, its first 128 bits in base64url. */
  hash: string;
  /** All of it, when it is at hand; else `read` brings it there. */
  atHand(): AtHand | undefined;
  read(): Promise<Buffer>;
  /** `start` and `end` both included. */
  stream(start: number, end: number): Readable;
}

/** Bytes of what is asked for often, for each process. */
const mostAtHand = 32 * 1024 * 1024;
const kept = new LRUCache<object, AtHand>({ maxSize: mostAtHand, sizeCalculation: ({ length }) => length + 1 });
/** Above this, bytes: answered in pieces, and not kept at hand. */
export const mostRead = 1024 * 1024;
/** Larger ones gain nothing by it, bytes. */
const mostText = 64 * 1024;

function keep(stored: Stored, bytes: Buffer): AtHand {
  const form = bytes.length <= mostText ? bytes.toString('latin1') : bytes;
  if (bytes.length <= mostRead) kept.set(stored, form);
  return form;
}

const pieceBytes = 256 * 1024;

export async function openPack(): Promise<Pack> {
  const handle = await openNameless();
  let end = 0;
  let users = 1;
  let last: Promise<unknown> = Promise.resolve();
  const leave = () => {
    users -= 1;
    if (users === 0) void handle?.close();
  };

  const pack: Pack = {
    isInMemory: handle === undefined,
    add(pieces) {
      const added = last.then(() => addNow(pieces));
      last = added.catch(() => undefined);
      return added;
    },
    close: leave,
  };

  async function addNow(pieces: AsyncIterable<Buffer> | Iterable<Buffer>): Promise<Stored> {
    const digest = createHash('sha256');
    const held: Buffer[] = [];
    const from = end;
    for await (const piece of pieces) {
      digest.update(piece);
      if (handle === undefined) held.push(piece);
      else await writeAll(handle, piece, end);
      end += piece.length;
    }
    const hash = digest.digest('base64url').slice(0, 22);
    return handle === undefined ? inMemory(hash, Buffer.concat(held)) : inFile(handle, hash, from, end - from);
  }

  function inMemory(hash: string, bytes: Buffer): Stored {
    const stored: Stored = {
      pack,
      hash,
      size: bytes.length,
      atHand: () => kept.get(stored) ?? keep(stored, bytes),
      read: async () => bytes,
      stream: (start, to) => Readable.from([bytes.subarray(start, to + 1)], { objectMode: false }),
    };
    return stored;
  }

  function inFile(file: FileHandle, hash: string, from: number, size: number): Stored {
    async function* pieces(start: number, to: number) {
      users += 1;
      try {
        for (let at = start; at <= to; at += pieceBytes)
          yield await readAll(file, from + at, Math.min(pieceBytes, to + 1 - at));
      } finally {
        leave();
      }
    }
    const stored: Stored = {
      pack,
      hash,
      size,
      atHand: () => kept.get(stored),
      async read() {
        const found = kept.get(stored);
        if (found !== undefined) return typeof found === 'string' ? Buffer.from(found, 'latin1') : found;
        const bytes = await readAll(file, from, size);
        keep(stored, bytes);
        return bytes;
      },
      stream: (start, to) => Readable.from(pieces(start, to), { objectMode: false }),
    };
    return stored;
  }
  return pack;
}

/** `undefined`: nothing may be written here. */
async function openNameless(): Promise<FileHandle | undefined> {
  const path = join(tmpdir(), `cloakroom-${randomBytes(16).toString('hex')}`);
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  try {
    const handle = await open(path, flags, 0o600);
    await unlink(path);
    return handle;
  } catch {
    return undefined;
  }
}

async function writeAll(handle: FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, position + at);
    at += bytesWritten;
  }
}

async function readAll(handle: FileHandle, position: number, size: number): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(size);
  for (let at = 0; at < size; ) {
    const { bytesRead } = await handle.read(bytes, at, size - at, position + at);
    if (bytesRead === 0) throw new Error('the copy of a file is shorter than it was');
    at += bytesRead;
  }
  return bytes;
}
