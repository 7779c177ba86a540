import type { Browser } from './browser.ts';
import { reply } from './echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from './echo-upstream.ts';
import { type ConfigData, startWorld, type World } from './world.ts';

/** A world for tests of forwarding: one API with a session, one public API, both on the same upstream. */
export interface ProxyWorld extends World {
  alice: Browser;
  /** The session cookie as a header line. */
  cookieLine: string;
  /** Forgets what the upstream saw and lets it answer `{"ok":true}` again; the default echo would show the token. */
  fresh(): void;
  /** The bytes of a request that Alice's page could send, with more header lines. */
  head(target: string, lines?: string[], method?: string): string;
}

export async function startProxyWorld(config: (data: ConfigData) => void = () => undefined): Promise<ProxyWorld> {
  const world = await startWorld({
    store: 'memory',
    config(data) {
      data.apis.public = { path: '/api/public', upstream: data.apis.orders.upstream, token: 'none' };
      config(data);
    },
  });
  const alice = await world.loggedIn('alice');
  const cookieLine = `Cookie: ${alice
    .cookies()
    .map(({ name, value }) => `${name}=${value}`)
    .join('; ')}`;
  const own = [cookieLine, 'X-CSRF: 1', 'Sec-Fetch-Site: same-origin'];
  return Object.assign(world, {
    alice,
    cookieLine,
    fresh() {
      world.upstream.reset();
      world.upstream.respond = reply({ body: { ok: true } });
    },
    head: (target: string, lines: string[] = [], method = 'GET') =>
      [`${method} ${target} HTTP/1.1`, `Host: localhost:${world.port}`, ...own, ...lines, '', ''].join('\r\n'),
  });
}

/** And another upstream, which answers `other`: what is meant for one must not reach the other. */
export interface TwoUpstreams extends ProxyWorld {
  other: EchoUpstream;
}

export async function startTwoUpstreams(config: (data: ConfigData, otherUrl: string) => void): Promise<TwoUpstreams> {
  const other = await startEchoUpstream();
  const world = await startProxyWorld((data) => config(data, other.url));
  const { fresh, stop } = world;
  return Object.assign(world, {
    other,
    fresh() {
      fresh();
      other.reset();
      other.respond = reply({ body: 'other' });
    },
    async stop() {
      await stop();
      await other.stop();
    },
  });
}
