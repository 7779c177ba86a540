import type { Browser } from './browser.ts';

/** One user's API calls, four at a time, one after the other. */
export interface Load {
  /** The status of every answer until now. */
  seen: number[];
  /** Resolves when the last answer is there. */
  stop(): Promise<void>;
}

/** Calls an API until stopped. */
export function startLoad(browser: Browser): Load {
  const stopping = new AbortController();
  const seen: number[] = [];
  const call = async () => {
    while (!stopping.signal.aborted) seen.push((await browser.fetch('/api/orders/1')).status);
  };
  const running = Promise.all([call(), call(), call(), call()]);
  return {
    seen,
    async stop() {
      stopping.abort();
      await running;
    },
  };
}
