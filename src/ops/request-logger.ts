import type { FastifyBaseLogger } from 'fastify';

const levels = ['fatal', 'error', 'warn', 'info', 'debug', 'trace'] as const;

/**
 * The logger of one request: pino's child with the request id, made when the first line is written. Most requests write
 * none of their own, and a child for each costs more than their session.
 */
class RequestLogger {
  readonly #parent: FastifyBaseLogger;
  readonly #bindings: Record<string, unknown>;
  #logger: FastifyBaseLogger | undefined;
  constructor(parent: FastifyBaseLogger, bindings: Record<string, unknown>) {
    this.#parent = parent;
    this.#bindings = bindings;
  }
  get level(): string {
    return this.#parent.level;
  }
  get pino(): FastifyBaseLogger {
    this.#logger ??= this.#parent.child(this.#bindings);
    return this.#logger;
  }
  child(...args: Parameters<FastifyBaseLogger['child']>): FastifyBaseLogger {
    return this.pino.child(...args);
  }
  silent(): void {}
}
for (const level of levels) {
  Object.defineProperty(RequestLogger.prototype, level, {
    value(this: RequestLogger, ...args: [object, string]) {
      this.pino[level](...args);
    },
  });
}

/** For fastify's `childLoggerFactory`. */
export function createRequestLogger(parent: FastifyBaseLogger, bindings: Record<string, unknown>): FastifyBaseLogger {
  return new RequestLogger(parent, bindings) as unknown as FastifyBaseLogger; // the levels are defined above
}
