import type { IncomingMessage, ServerResponse } from 'node:http';
import { Transform, type TransformCallback } from 'node:stream';
import type { Dispatcher } from 'undici';
import {
  BodyTooLarge,
  isProblem,
  problem,
  RequestMalformed,
  UpstreamInvalid,
  UpstreamTimeout,
  UpstreamUnreachable,
} from '../http/errors.ts';
import type { Upstream } from './upstreams.ts';

export interface ForwardOptions {
  upstream: Upstream;
  origin: string;
  /** Path and query, as matched. */
  path: string;
  method: string;
  /** Flat list of names and values. */
  headers: string[];
  request: IncomingMessage;
  response: ServerResponse;
  hasBody: boolean;
  /** Bytes. */
  longestBody: number;
  headersTimeout: number;
  bodyTimeout: number;
  /** Keeps an answer from the browser, to be dealt with otherwise; the rest of it is thrown away. */
  withhold?: (status: number, raw: (Buffer | string)[]) => boolean;
  /** Called once the upstream answered, before a byte goes out: from here on errors can only cut the connection. */
  onHead: () => void;
  buildHeaders: (status: number, raw: (Buffer | string)[]) => string[];
  buildTrailers: (raw: (Buffer | string)[]) => [string, string][];
}

/** How a forwarded request ended, for metrics. Problems are thrown. */
export type Forwarded = 'complete' | 'cut-by-upstream' | 'left-by-browser' | 'withheld';

/**
 * Sends one request to an upstream and streams the answer back, with back-pressure in both directions. A browser that
 * leaves cancels the upstream at once, before and after its headers (S10, PX14). Nothing is retried but a safe request
 * whose connection failed before a byte was sent, once (S8, PX12).
 */
export async function forward(options: ForwardOptions): Promise<Forwarded> {
  const { upstream, response } = options;
  if (!upstream.line.enter()) {
    const outcome = await upstream.line.wait(response, options.headersTimeout);
    if (outcome === 'left') return 'left-by-browser';
    if (outcome === 'late') throw problem(UpstreamTimeout);
  }
  const attempt = () => new Promise<Forwarded>((resolve, reject) => dispatch(options, resolve, reject));
  const isSafe = (options.method === 'GET' || options.method === 'HEAD') && !options.hasBody;
  try {
    return await attempt().catch((error: unknown) => {
      if (error instanceof NotSentError && isSafe && !response.destroyed) return attempt();
      throw error;
    });
  } catch (error) {
    throw toProblem(error);
  } finally {
    upstream.line.leave();
  }
}

/** A refusal's body; more costs more than a new connection. */
const mostWithheldBytes = 64 * 1024;

/** The connection failed; the upstream has not seen the request. */
class NotSentError extends Error {}

function dispatch(
  options: ForwardOptions,
  resolve: (outcome: Forwarded) => void,
  reject: (error: unknown) => void,
): void {
  const { request, response } = options;
  if (response.destroyed) {
    resolve('left-by-browser');
    return;
  }
  const body = options.hasBody ? request.pipe(new LimitedBody(options.longestBody)) : undefined;
  let controller: Dispatcher.DispatchController | undefined;
  let firstInterimAt: number | undefined;
  let stalled: NodeJS.Timeout | undefined;
  let isHeadSent = false;
  let isWithheld = false;
  let withheldBytes = 0;
  let isSettled = false;

  const settle = (finish: () => void) => {
    if (isSettled) return;
    isSettled = true;
    clearTimeout(stalled);
    response.off('close', leave);
    response.off('drain', onDrain);
    finish();
    if (body !== undefined) discardBody(request, options.longestBody, body);
  };
  const leave = () => {
    settle(() => resolve('left-by-browser'));
    controller?.abort(new Error('the browser left'));
  };
  const onDrain = () => {
    clearTimeout(stalled);
    controller?.resume();
  };
  response.on('close', leave);

  const handler: Dispatcher.DispatchHandler = {
    onRequestStart(started) {
      controller = started;
      if (isSettled) started.abort(new Error('the browser left'));
    },
    onResponseStart(started, status) {
      if (status < 200) {
        // 100 and 103 are for this hop only. Each restarts undici's timer: they may not do so for ever (T94).
        firstInterimAt ??= performance.now();
        if (!request.complete) firstInterimAt = undefined;
        else if (performance.now() - firstInterimAt > options.headersTimeout) started.abort(problem(UpstreamTimeout));
        return;
      }
      if (status > 599) throw problem(UpstreamInvalid); // means nothing to anybody (RFC 9110 §15)
      if (options.withhold?.(status, flatHeaders(started.rawHeaders)) === true) {
        isWithheld = true;
        return;
      }
      response.writeHead(status, options.buildHeaders(status, flatHeaders(started.rawHeaders)));
      options.onHead();
      isHeadSent = true;
      response.flushHeaders();
      response.on('drain', onDrain);
    },
    onResponseData(started, chunk) {
      if (isWithheld) {
        withheldBytes += chunk.length;
        if (withheldBytes > mostWithheldBytes) started.abort(new Error('too long to read for nothing'));
        return;
      }
      if (response.write(chunk) || isSettled) return;
      started.pause();
      // While paused, undici's own timer rests: a browser that reads nothing must not keep the connection (T91).
      clearTimeout(stalled);
      stalled = setTimeout(() => {
        leave();
        response.destroy();
      }, options.bodyTimeout);
    },
    onResponseEnd(started) {
      if (isWithheld) return settle(() => resolve('withheld'));
      const trailers = options.buildTrailers(flatHeaders(started.rawTrailers));
      if (trailers.length > 0) response.addTrailers(trailers);
      settle(() => {
        response.end();
        resolve('complete');
      });
    },
    onResponseError(_started, error) {
      settle(() => {
        if (isWithheld) return resolve('withheld');
        if (isHeadSent) {
          // Never a clean end after a failure: the browser must see that something is missing.
          response.destroy();
          return resolve('cut-by-upstream');
        }
        const isSent = controller !== undefined || error instanceof TooLargeError;
        reject(isSent ? error : new NotSentError('not sent', { cause: error }));
      });
    },
  };
  try {
    options.upstream.dispatcher.dispatch(
      {
        origin: options.origin,
        path: options.path,
        method: options.method as Dispatcher.HttpMethod,
        headers: options.headers,
        body: body ?? null,
        headersTimeout: options.headersTimeout,
        bodyTimeout: options.bodyTimeout,
      },
      handler,
    );
  } catch (error) {
    settle(() => reject(error)); // undici refuses the request itself: characters that no header or path may have
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

function flatHeaders(raw: Dispatcher.DispatchController['rawHeaders']): (Buffer | string)[] {
  return Array.isArray(raw) ? raw : [];
}

class TooLargeError extends Error {}

/**
 * Counts a body as it flows. Also keeps undici, which destroys the stream it sends when an upstream answers early,
 * from destroying the browser's connection under the answer.
 */
class LimitedBody extends Transform {
  #left: number;
  constructor(limit: number) {
    super();
    this.#left = limit;
    this.on('error', () => undefined); // undici listens while it sends; an error after that must not end the process
  }
  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#left -= chunk.length;
    if (this.#left < 0) done(new TooLargeError());
    else done(null, chunk);
  }
}

/** Sorts undici's errors; their messages, which have addresses, go to the log only as a code. */
function toProblem(error: unknown): Error {
  if (isProblem(error)) return error;
  if (error instanceof TooLargeError) return problem(BodyTooLarge);
  const cause = error instanceof NotSentError ? error.cause : error;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  switch (code) {
    case 'UND_ERR_CONNECT_TIMEOUT':
    case 'UND_ERR_HEADERS_TIMEOUT':
    case 'UND_ERR_BODY_TIMEOUT':
      return problem(UpstreamTimeout, { cause });
    case 'UND_ERR_INVALID_ARG':
    case 'UND_ERR_NOT_SUPPORTED':
    case 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH':
      return problem(RequestMalformed, { cause });
    case 'UND_ERR_HEADERS_OVERFLOW':
    case 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH':
    case 'ERR_INVALID_CHAR': // Node refuses to write what it was given
      return problem(UpstreamInvalid, { cause });
    default:
      return code.startsWith('HPE_') ? problem(UpstreamInvalid, { cause }) : problem(UpstreamUnreachable, { cause });
  }
}
