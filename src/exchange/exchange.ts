import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Dispatcher } from 'undici';
import { problem, RequestTimeout, UpstreamInvalid, UpstreamTimeout } from '../problems/errors.ts';
import type { Connection, ConnectionHandler } from '../upstream/connection.ts';
import type { Carrier } from '../upstream/target.ts';
import { isClosing, lateness, NotSentError, StaleConnectionError } from './fault.ts';
import type { AnswerHeaders } from './headers.ts';
import { discardBody, LimitedBody, TooLargeError } from './request-body.ts';
import { dropLimits, keepLimits, type Limited, lookMs } from './time-limits.ts';

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
  limits: {
    /** Bytes. */
    requestBody: number;
  };
  /** Milliseconds. */
  timeouts: {
    headers: number;
    body: number;
    /** Until the last byte; no limit when undefined. */
    total?: number | undefined;
  };
  /** Keeps an answer from the browser, to be dealt with otherwise; the rest of it is thrown away. */
  withhold(status: number, headers: AnswerHeaders): boolean;
  /** Called once the upstream answered, before a byte goes out: from here on errors can only cut the connection. */
  onHead(): void;
  /** What goes out, flat. */
  buildHeaders(status: number, headers: AnswerHeaders): string[];
  buildTrailers(trailers: AnswerHeaders): [string, string][];
}

/** How an exchange ended, for metrics. */
export type Exchanged = 'complete' | 'cut-by-upstream' | 'left-by-browser' | 'withheld';

/** Beyond that, copying costs more than a second piece. */
const mostJoinedBytes = 8 * 1024;

/** A refusal's body; more costs more than a new connection. */
const mostWithheldBytes = 64 * 1024;
const mostWithheldMs = 1000;

/**
 * Sends one request to one target and streams the answer back, with back-pressure in both directions. A browser that
 * leaves cancels the upstream at once, before and after its headers (S10, PX14). `spentMs`: how much of its time the
 * request has used up already. Calls `resolve` or `reject`, once.
 */
export function exchange(
  options: ExchangeOptions,
  target: Carrier,
  spentMs: number,
  resolve: (outcome: Exchanged) => void,
  reject: (error: unknown) => void,
): void {
  if (options.response.destroyed) resolve('left-by-browser');
  else new Exchange(options, target, spentMs, resolve, reject).begin();
}

/** One object for each request, and no closures but one: there are some ten thousand of them a second. */
class Exchange implements ConnectionHandler, Limited {
  readonly #options: ExchangeOptions;
  readonly #target: Carrier;
  readonly #spentMs: number;
  readonly #resolve: (outcome: Exchanged) => void;
  readonly #reject: (error: unknown) => void;
  readonly #onClose = () => this.#leave();
  #body: LimitedBody | undefined;
  connection: Connection | undefined;
  #controller: Dispatcher.DispatchController | undefined;
  /** It went out on a kept connection, and nothing has come back. */
  #mayBeStale: boolean = false;
  place = 0;
  /** How often somebody looked since it began, and since something came from the one that it waits for. */
  #looks = 0;
  #quietLooks = 0;
  /** The browser does not take what there is. */
  #isPaused: boolean = false;
  #isHeadSent: boolean = false;
  /** The head has gone out, or waits with what is held. */
  #isBegun: boolean = false;
  /** The beginning of the body, as long as it may turn out to be all of it. */
  #held: string | undefined;
  #isWithheld: boolean = false;
  #withheldBytes = 0;
  #isSettled: boolean = false;

  constructor(
    options: ExchangeOptions,
    target: Carrier,
    spentMs: number,
    resolve: (outcome: Exchanged) => void,
    reject: (error: unknown) => void,
  ) {
    this.#options = options;
    this.#target = target;
    this.#spentMs = spentMs;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  begin(): void {
    const { path, method, headers, request, response, hasBody, limits } = this.#options;
    if (hasBody) this.#body = request.pipe(new LimitedBody(limits.requestBody));
    response.on('close', this.#onClose);
    keepLimits(this);
    try {
      this.#target.dispatcher.dispatch(
        {
          path,
          method: method as Dispatcher.HttpMethod,
          headers,
          body: this.#body ?? null,
          headersTimeout: 0, // ours: see `look`
          bodyTimeout: 0,
        },
        this,
      );
    } catch (error) {
      this.#fail(error); // undici refuses the request itself: characters that no header or path may have
    }
  }

  onRequestStart(started: Dispatcher.DispatchController): void {
    this.#controller = started;
    this.#mayBeStale = this.connection?.use() === true;
    if (this.#isSettled) started.abort(new Error('nobody waits any more'));
  }

  onResponseStarted(): void {
    this.#mayBeStale = false;
  }

  onResponseStart(_started: Dispatcher.DispatchController, status: number, headers: AnswerHeaders): void {
    const { response } = this.#options;
    if (status < 200) return; // 100 and 103 are for this hop only, and put nothing off: they could come for ever (T94)
    this.#target.answered(status);
    this.#quietLooks = 0;
    if (status > 599) throw problem(UpstreamInvalid); // means nothing to anybody (RFC 9110 §15)
    if (this.#options.withhold(status, headers)) {
      this.#isWithheld = true;
      return;
    }
    response.writeHead(status, this.#options.buildHeaders(status, headers));
    this.#options.onHead();
    this.#isHeadSent = true;
    process.nextTick(flush, this);
  }

  onResponseData(started: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#isWithheld) {
      this.#withheldBytes += chunk.length;
      if (this.#withheldBytes > mostWithheldBytes) started.abort(new Error('too long to read for nothing'));
      return;
    }
    this.#quietLooks = 0;
    if (!this.#isBegun && chunk.length <= mostJoinedBytes) {
      // Node writes a head and a text in one piece, a head and a buffer in two; latin1 stands for the same bytes.
      this.#held = chunk.toString('latin1');
      this.#isBegun = true;
      return;
    }
    this.#isBegun = true;
    this.#writeHeld();
    this.#write(chunk);
  }

  onResponseEnd(_started: Dispatcher.DispatchController, trailers: AnswerHeaders): void {
    if (this.#isWithheld) {
      this.#finish('withheld');
      return;
    }
    if (this.#isSettled) return;
    const { response } = this.#options;
    if (hasOwnNames(trailers)) response.addTrailers(this.#options.buildTrailers(trailers));
    const held = this.#held;
    this.#held = undefined;
    this.#settle();
    if (held === undefined) response.end();
    else response.end(held, 'latin1');
    this.#resolve('complete');
  }

  onResponseError(_started: Dispatcher.DispatchController | undefined, error: Error): void {
    if (this.#isSettled) return;
    if (this.#isWithheld) {
      this.#finish('withheld');
    } else if (this.#isHeadSent) {
      // Never a clean end after a failure: the browser must see that something is missing.
      this.#finish('cut-by-upstream');
      this.#options.response.destroy();
    } else if (this.#controller === undefined && !(error instanceof TooLargeError)) {
      this.#fail(new NotSentError('not sent', { cause: error }));
    } else {
      this.#fail(this.#mayBeStale && isClosing(error) ? new StaleConnectionError('closed', { cause: error }) : error);
    }
  }

  /**
   * Head and body go out in one write when they come together. What comes alone goes out alone, at the end of the turn
   * that it came in (SSE).
   */
  flush(): void {
    if (this.#isSettled) return;
    const { response } = this.#options;
    if (!this.#isBegun) response.flushHeaders();
    this.#isBegun = true;
    this.#writeHeld();
  }

  #writeHeld(): void {
    const held = this.#held;
    this.#held = undefined;
    if (held !== undefined) this.#write(held);
  }

  #write(piece: Buffer | string): void {
    const { response } = this.#options;
    const isTaken = typeof piece === 'string' ? response.write(piece, 'latin1') : response.write(piece);
    if (isTaken || this.#isSettled) return;
    this.#controller?.pause();
    this.#isPaused = true;
    response.once('drain', () => {
      this.#isPaused = false;
      this.#quietLooks = 0;
      if (!this.#isSettled) this.#controller?.resume();
    });
  }

  #leave(): void {
    this.#finish('left-by-browser');
    this.#controller?.abort(new Error('the browser left'));
  }

  /** Ends what takes too long. undici's own timers are off: what they would cost is in `time-limits.ts`. */
  look(): void {
    const { request, response, timeouts } = this.#options;
    const { headers, body, total = Number.POSITIVE_INFINITY } = timeouts;
    const quietMs = this.#quietLooks++ * lookMs;
    if (this.#spentMs + this.#looks++ * lookMs >= total) {
      this.#abort(request.complete ? lateness(quietMs, total) : problem(RequestTimeout));
    } else if (this.#isWithheld) {
      if (quietMs >= mostWithheldMs) this.#abort(new Error('too slow to read for nothing'));
    } else if (this.#isPaused) {
      if (quietMs < body) return;
      this.#leave(); // a browser that reads nothing must not keep the connection (T91)
      response.destroy();
    } else if (this.#isHeadSent) {
      if (quietMs >= body) this.#abort(problem(UpstreamTimeout));
    } else if (this.#controller === undefined || this.#body?.isMoving() === true) {
      // Connecting has a limit of its own. A slow upload is up to the browser, whom Node's server keeps an eye on.
      this.#quietLooks = 0;
    } else if (this.#spentMs + quietMs >= headers) {
      this.#abort(lateness(quietMs, headers));
    }
  }

  #abort(reason: Error): void {
    if (this.#controller === undefined) this.#fail(reason);
    else this.#controller.abort(reason);
  }

  #finish(outcome: Exchanged): void {
    if (this.#isSettled) return;
    this.#settle();
    this.#resolve(outcome);
  }

  #fail(error: unknown): void {
    if (this.#isSettled) return;
    this.#settle();
    this.#reject(error);
  }

  #settle(): void {
    this.#isSettled = true;
    dropLimits(this);
    const { request, response, limits } = this.#options;
    response.off('close', this.#onClose);
    if (this.#body !== undefined) discardBody(request, limits.requestBody, this.#body);
  }
}

function flush(exchange: Exchange): void {
  exchange.flush();
}

function hasOwnNames(headers: AnswerHeaders): boolean {
  for (const _name in headers) return true;
  return false;
}
