import type { IncomingMessage } from 'node:http';
import { Transform, type TransformCallback } from 'node:stream';

/** The body is longer than its API takes. */
export class TooLargeError extends Error {}

/**
 * Counts a body as it flows. Also keeps undici, which destroys the stream it sends when an upstream answers early,
 * from destroying the browser's connection under the answer.
 */
export class LimitedBody extends Transform {
  #left: number;
  #leftBefore: number;
  constructor(limit: number) {
    super();
    this.#left = limit;
    this.#leftBefore = limit;
    this.on('error', () => undefined); // undici listens while it sends; an error after that must not end the process
  }
  /** Bytes passed since this was asked last, or would have if the browser had sent any. */
  isMoving(): boolean {
    const hasMoved = this.#left !== this.#leftBefore;
    this.#leftBefore = this.#left;
    return !this.readableEnded && (hasMoved || !this.isPaused());
  }
  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#left -= chunk.length;
    if (this.#left < 0) done(new TooLargeError());
    else done(null, chunk);
  }
}

/**
 * Reads what is left of a body that nobody wants any more, so that the browser, which may look at an answer only after
 * its upload, gets to see it. No more than the API would have taken: then the connection is cut.
 */
export function discardBody(request: IncomingMessage, mostBytes: number, pipedTo?: Transform): void {
  if (pipedTo !== undefined) {
    request.unpipe(pipedTo);
    pipedTo.destroy();
  }
  if (request.complete || request.destroyed) return;
  let left = mostBytes;
  request.on('data', (chunk: Buffer) => {
    left -= chunk.length;
    if (left < 0) request.destroy();
  });
  request.resume();
}
