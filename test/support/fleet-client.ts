import { Agent } from 'undici';
import type { EvilProvider } from './evil-provider.ts';

/** What a browser keeps of a session, for thousands of sessions at once: no jar, no redirects, one cookie. */
export interface Person {
  sub: string;
  /** `name=value` of the session cookie. */
  cookie: string;
}

export interface Answer {
  status: number;
  text: string;
  setCookies: string[];
  location: string | undefined;
  /** Milliseconds until the whole answer was there. */
  tookMs: number;
}

export interface FleetClient {
  /** One request to a port, as the frontend's own page sends it. */
  send(
    port: number,
    path: string,
    options?: { method?: string; cookie?: string; navigation?: boolean; signal?: AbortSignal; form?: string },
  ): Promise<Answer>;
  /** Logs a new person in on this port. */
  login(port: number, sub?: string): Promise<Person>;
  close(): Promise<void>;
}

/** A client of many browsers. `origin` is the public origin, wherever the ports are. */
export function createFleetClient(origin: string, provider: EvilProvider): FleetClient {
  const agent = new Agent({ connections: 512, headersTimeout: 60_000, bodyTimeout: 60_000 });
  const host = new URL(origin).host;
  let count = 0;
  let turn: Promise<unknown> = Promise.resolve();

  const send: FleetClient['send'] = async (
    port,
    path,
    { method = 'GET', cookie, navigation = false, signal, form } = {},
  ) => {
    const before = performance.now();
    const response = await agent.request({
      origin: `http://127.0.0.1:${port}`,
      path,
      method: method as 'GET',
      signal: signal ?? null,
      body: form ?? null,
      headers: {
        host,
        'sec-fetch-site': 'same-origin',
        ...(navigation
          ? { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', accept: 'text/html' }
          : { 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty', 'x-csrf': '1' }),
        ...(cookie === undefined ? {} : { cookie }),
        ...(form === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' }),
      },
    });
    const text = await response.body.text();
    const { location, 'set-cookie': set = [] } = response.headers;
    return {
      status: response.statusCode,
      text,
      setCookies: [set].flat(),
      location: typeof location === 'string' ? location : undefined,
      tookMs: performance.now() - before,
    };
  };
  const pairOf = (answer: Answer, isIt: (name: string) => boolean) =>
    answer.setCookies.map((line) => line.split(';', 1)[0] ?? '').find((pair) => isIt(pair.split('=', 1)[0] ?? '')) ??
    '';

  return {
    send,
    async login(port, sub = `user-${++count}`) {
      const started = await send(port, '/bff/login?return_to=/', { navigation: true });
      const attempt = pairOf(started, (name) => name.includes('.login.'));
      // Who sits at the provider is one for all requests there: one after the other.
      const atProvider = turn.then(async () => {
        provider.nextLogin({ sub });
        return fetch(started.location ?? '', { redirect: 'manual' });
      });
      turn = atProvider.catch(() => undefined);
      const back = new URL((await atProvider).headers.get('location') ?? '');
      const finished = await send(port, `${back.pathname}${back.search}`, { cookie: attempt, navigation: true });
      const cookie = pairOf(finished, (name) => !name.includes('.'));
      if (finished.status !== 303 || cookie === '')
        throw new Error(`login failed: ${finished.status} ${finished.text}`);
      return { sub, cookie };
    },
    close: () => agent.destroy(),
  };
}
