import type { IncomingMessage, ServerResponse } from 'node:http';
import { Transform, type TransformCallback } from 'node:stream';
import type { Dispatcher } from 'undici';
import {
  BodyTooLarge,
  problem,
  RequestMalformed,
  UpstreamInvalid,
  UpstreamTimeout,
  UpstreamUnreachable,
} from '../http/errors.ts';

export interface ForwardOptions {
  dispatcher: Dispatcher;
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
  /** Called once the upstream answered, before a byte goes out: from here on errors can only cut the connection. */
  onHead: () => void;
  buildHeaders: (status: number, raw: (Buffer | string)[]) => string[];
}

/** How a forwarded request ended, for metrics. Problems are thrown. */
export type Forwarded = 'complete' | 'cut-by-upstream' | 'left-by-browser';

/**
 * Sends one request to an upstream and streams the answer back, with back-pressure in both directions. A browser that
 * leaves cancels the upstream at once, before and after its headers (S10, PX14). Nothing is retried but a safe request
 * whose connection failed before a byte was sent, once (S8, PX12).
 */
export async function forward(options: ForwardOptions): Promise<Forwarded> {
  const attempt = () => new Promise<Forwarded>((resolve, reject) => dispatch(options, resolve, reject));
  const isSafe = (options.method === 'GET' || options.method === 'HEAD') && !options.hasBody;
  try {
    return await attempt();
  } catch (error) {
    if (error instanceof NotSentError && isSafe && !options.response.destroyed) {
      try {
        return await attempt();
      } catch (again) {
        throw toProblem(again);
      }
    }
    throw toProblem(error);
  }
}

/** The connection failed; the upstream has not seen the request. */
class NotSentError extends Error {}

function dispatch(
  options: ForwardOptions,
  resolve: (outcome: Forwarded) => void,
  reject: (error: unknown) => void,
): void {
  const { request, response } = options;
  let controller: Dispatcher.DispatchController | undefined;
  let hasBrowserLeft = false;
  let isHeadSent = false;
  let isSettled = false;

  const onClose = () => {
    if (response.writableFinished) return;
    hasBrowserLeft = true;
    controller?.abort(new Error('the browser left'));
    settle(() => resolve('left-by-browser'));
  };
  const onDrain = () => controller?.resume();
  const settle = (finish: () => void) => {
    if (isSettled) return;
    isSettled = true;
    response.off('close', onClose);
    response.off('drain', onDrain);
    finish();
  };
  if (response.destroyed) {
    resolve('left-by-browser');
    return;
  }
  response.on('close', onClose);

  const handler: Dispatcher.DispatchHandler = {
    onRequestStart(started) {
      controller = started;
      if (hasBrowserLeft) started.abort(new Error('the browser left'));
    },
    onResponseStart(started, status) {
      if (status < 200) return; // 100 and 103 are for this hop only
      const headers = options.buildHeaders(status, (started.rawHeaders ?? []) as (Buffer | string)[]);
      // An HTTP/1 connection can't be used again before the request body was read.
      if (!request.complete) headers.push('connection', 'close');
      options.onHead();
      isHeadSent = true;
      response.writeHead(status, headers);
      response.flushHeaders();
      response.on('drain', onDrain);
    },
    onResponseData(started, chunk) {
      if (!response.write(chunk)) started.pause();
    },
    onResponseEnd(_started, trailers) {
      const names = Object.keys(trailers ?? {});
      if (names.length > 0 && response.getHeader('content-length') === undefined)
        response.addTrailers(plainTrailers(trailers));
      settle(() => {
        response.end();
        resolve('complete');
      });
    },
    onResponseError(_started, error) {
      settle(() => {
        if (hasBrowserLeft) return resolve('left-by-browser');
        if (isHeadSent) {
          // Never a clean end after a failure: the browser must see that something is missing.
          response.destroy();
          return resolve('cut-by-upstream');
        }
        reject(
          controller === undefined && !(error instanceof TooLargeError)
            ? new NotSentError('not sent', { cause: error })
            : error,
        );
      });
    },
  };
  try {
    options.dispatcher.dispatch(
      {
        origin: options.origin,
        path: options.path,
        method: options.method as Dispatcher.HttpMethod,
        headers: options.headers,
        body: options.hasBody ? request.pipe(new LimitedBody(options.longestBody)) : null,
        headersTimeout: options.headersTimeout,
        bodyTimeout: options.bodyTimeout,
      },
      handler,
    );
  } catch (error) {
    settle(() => reject(error)); // undici refuses the request itself: characters that no header or path may have
  }
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
  }
  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#left -= chunk.length;
    if (this.#left < 0) done(new TooLargeError());
    else done(null, chunk);
  }
}

function plainTrailers(trailers: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(trailers)
      .filter(
        ([name]) =>
          !/^(set-cookie|content-length|transfer-encoding|host|authorization|connection|trailer)$/i.test(name),
      )
      .map(([name, value]) => [name, String(value)]),
  );
}

/** Sorts undici's errors; their messages, which have addresses, go to the log only as a code. */
function toProblem(error: unknown): Error {
  if (error instanceof TooLargeError) return problem(BodyTooLarge);
  const cause = error instanceof NotSentError ? error.cause : error;
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : '';
  if (error instanceof NotSentError) {
    return code === 'UND_ERR_CONNECT_TIMEOUT'
      ? problem(UpstreamTimeout, { cause })
      : problem(UpstreamUnreachable, { cause });
  }
  switch (code) {
    case 'UND_ERR_HEADERS_TIMEOUT':
    case 'UND_ERR_BODY_TIMEOUT':
      return problem(UpstreamTimeout, { cause });
    case 'UND_ERR_INVALID_ARG':
    case 'UND_ERR_NOT_SUPPORTED':
    case 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH':
      return problem(RequestMalformed, { cause });
    case 'UND_ERR_HEADERS_OVERFLOW':
      return problem(UpstreamInvalid, { cause });
    default:
      return code.startsWith('HPE_') ? problem(UpstreamInvalid, { cause }) : problem(UpstreamUnreachable, { cause });
  }
}
