import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Dispatcher } from 'undici';
import { problem, RequestTimeout, UpstreamInvalid, UpstreamTimeout } from '../http/errors.ts';
import { discardBody, LimitedBody, TooLargeError } from './request-body.ts';
import type { Target } from './target.ts';

/** One request, and what becomes of its answer. */
export interface ExchangeOptions {
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
  /** Until the last byte; no limit when undefined. */
  totalTimeout: number | undefined;
  /** Keeps an answer from the browser, to be dealt with otherwise; the rest of it is thrown away. */
  withhold?: (status: number, raw: (Buffer | string)[]) => boolean;
  /** Called once the upstream answered, before a byte goes out: from here on errors can only cut the connection. */
  onHead: () => void;
  buildHeaders: (status: number, raw: (Buffer | string)[]) => string[];
  buildTrailers: (raw: (Buffer | string)[]) => [string, string][];
}

/** How an exchange ended, for metrics. */
export type Exchanged = 'complete' | 'cut-by-upstream' | 'left-by-browser' | 'withheld';

/** The connection failed; the target has not seen the request. */
export class NotSentError extends Error {}

/** Beyond that, copying costs more than a second piece. */
const mostJoinedBytes = 8 * 1024;

/** A refusal's body; more costs more than a new connection. */
const mostWithheldBytes = 64 * 1024;
const mostWithheldMs = 1000;

/**
 * Sends one request to one target and streams the answer back, with back-pressure in both directions. A browser that
 * leaves cancels the upstream at once, before and after its headers (S10, PX14). `spentMs`: how much of its time the
 * request has used up already.
 */
export function exchange(options: ExchangeOptions, target: Target, spentMs: number): Promise<Exchanged> {
  return new Promise((resolve, reject) => dispatch(options, target, spentMs, resolve, reject));
}

function dispatch(
  options: ExchangeOptions,
  target: Target,
  spentMs: number,
  resolve: (outcome: Exchanged) => void,
  reject: (error: unknown) => void,
): void {
  const { request, response } = options;
  const headersTimeout = Math.max(1, options.headersTimeout - spentMs);
  if (response.destroyed) {
    resolve('left-by-browser');
    return;
  }
  const body = options.hasBody ? request.pipe(new LimitedBody(options.longestBody)) : undefined;
  let controller: Dispatcher.DispatchController | undefined;
  let firstInterimAt: number | undefined;
  let stalled: NodeJS.Timeout | undefined;
  let deadline: NodeJS.Timeout | undefined;
  let isHeadSent = false;
  let isBodyBegun = false;
  let isWithheld = false;
  let withheldBytes = 0;
  let isSettled = false;

  const settle = (finish: () => void) => {
    if (isSettled) return;
    isSettled = true;
    clearTimeout(stalled);
    clearTimeout(deadline);
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
  /** A head whose body takes its time, as that of an event stream. */
  const flushHead = () => {
    if (!isBodyBegun) response.flushHeaders();
  };
  response.on('close', leave);
  if (options.totalTimeout !== undefined) {
    deadline = setTimeout(() => {
      const isLate = problem(request.complete ? UpstreamTimeout : RequestTimeout);
      if (controller === undefined) settle(() => reject(isLate));
      else controller.abort(isLate);
    }, options.totalTimeout - spentMs);
  }

  const handler: Dispatcher.DispatchHandler = {
    onRequestStart(started) {
      controller = started;
      if (isSettled) started.abort(new Error('nobody waits any more'));
    },
    onResponseStart(started, status) {
      if (status < 200) {
        // 100 and 103 are for this hop only. Each restarts undici's timer: they may not do so for ever (T94).
        firstInterimAt ??= performance.now();
        if (!request.complete) firstInterimAt = undefined;
        else if (performance.now() - firstInterimAt > headersTimeout) started.abort(problem(UpstreamTimeout));
        return;
      }
      target.answered(status);
      if (status > 599) throw problem(UpstreamInvalid); // means nothing to anybody (RFC 9110 §15)
      if (options.withhold?.(status, flatHeaders(started.rawHeaders)) === true) {
        isWithheld = true;
        stalled = setTimeout(() => started.abort(new Error('too slow to read for nothing')), mostWithheldMs);
        return;
      }
      response.writeHead(status, options.buildHeaders(status, flatHeaders(started.rawHeaders)));
      options.onHead();
      isHeadSent = true;
      // Head and body in one write when they come together; a head that comes alone goes out alone (SSE).
      process.nextTick(flushHead);
      response.on('drain', onDrain);
    },
    onResponseData(started, chunk) {
      if (isWithheld) {
        withheldBytes += chunk.length;
        if (withheldBytes > mostWithheldBytes) started.abort(new Error('too long to read for nothing'));
        return;
      }
      // Node writes a head and a text in one piece, a head and a buffer in two; latin1 stands for the same bytes.
      const isSmallStart = !isBodyBegun && chunk.length <= mostJoinedBytes;
      isBodyBegun = true;
      if ((isSmallStart ? response.write(chunk.toString('latin1'), 'latin1') : response.write(chunk)) || isSettled)
        return;
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
      const hasBody = isBodyBegun;
      isBodyBegun = true;
      const raw = flatHeaders(started.rawTrailers);
      if (raw.length > 0) {
        const trailers = options.buildTrailers(raw);
        if (trailers.length > 0) response.addTrailers(trailers);
      }
      settle(() => {
        // After what was written in this turn went out, an end adds no write of its own.
        if (hasBody) process.nextTick(endResponse, response);
        else response.end();
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
    target.dispatcher.dispatch(
      {
        path: options.path,
        method: options.method as Dispatcher.HttpMethod,
        headers: options.headers,
        body: body ?? null,
        headersTimeout,
        bodyTimeout: options.bodyTimeout,
      },
      handler,
    );
  } catch (error) {
    settle(() => reject(error)); // undici refuses the request itself: characters that no header or path may have
  }
}

function endResponse(response: ServerResponse): void {
  response.end();
}

function flatHeaders(raw: Dispatcher.DispatchController['rawHeaders']): (Buffer | string)[] {
  return Array.isArray(raw) ? raw : [];
}
