import { Client, type Dispatcher } from 'undici';

/** One who is told which connection will carry the request. */
export interface ConnectionHandler extends Dispatcher.DispatchHandler {
  connection?: Connection | undefined;
}

/**
 * One place of a target's pool, with one connection at a time that knows its age and its past. undici's own `clientTtl`
 * reads the clock for every busy connection with every request, and lets all that were opened together end together.
 */
export class Connection extends Client {
  /** The next request is not the first on this connection. */
  #isUsed = false;
  /** Monotonic milliseconds. */
  #endsAt = Number.POSITIVE_INFINITY;

  /** `life`: milliseconds; the last quarter is left to chance, so that many connections are not renewed in step. */
  constructor(origin: URL | string, { life, ...options }: Client.Options & { life: number }) {
    super(origin, options);
    this.on('connect', () => {
      this.#isUsed = false;
      this.#endsAt = performance.now() + life * (1 - Math.random() / 4);
    });
    this.on('disconnect', () => {
      this.#endsAt = Number.POSITIVE_INFINITY;
    });
  }

  /** A connection past its life ends with this request: none is cut, and none that is asked for anything outlives it. */
  override dispatch(options: Dispatcher.DispatchOptions, handler: ConnectionHandler): boolean {
    handler.connection = this;
    return super.dispatch(performance.now() < this.#endsAt ? options : { ...options, reset: true }, handler);
  }

  /** To be called when a request goes out. Did one go out before it? */
  use(): boolean {
    const wasUsed = this.#isUsed;
    this.#isUsed = true;
    return wasUsed;
  }
}
