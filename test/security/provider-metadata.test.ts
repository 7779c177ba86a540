import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import type { DiscoveryFault } from '../support/evil-provider/faults.ts';
import { type EvilProvider, startEvilProvider } from '../support/evil-provider.ts';
import { attemptLogin } from '../support/login-attempt.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
afterEach(() => world.stop());

/** A world that uses a provider of the test's own, which may be down. */
function startWorldAt({ issuer, clientId, clientSecret }: EvilProvider): Promise<World> {
  return startWorld({
    store: 'memory',
    config: ({ authorizationServer }) => {
      Object.assign(authorizationServer, { issuer, clientId, clientSecret });
    },
  });
}

const metadata = (changed: Record<string, unknown>) => (): DiscoveryFault => ({
  mutate: (json) => ({ ...json, ...changed }),
});
const warnings = () => world.log.warnings().filter(({ msg }) => msg === 'authorization server metadata is not usable');

describe('metadata later on', () => {
  /** An hour later they are read again, in the background of some login. */
  async function readAgain(): Promise<void> {
    const before = world.provider.requestsTo('discovery').length;
    const told = warnings().length;
    world.clock.advance(3_600_001);
    await attemptLogin(world);
    await until(() => world.provider.requestsTo('discovery').length > before);
    await until(() => warnings().length > told);
  }

  it('T41 that could not be read at the start are read as soon as the provider is there', async () => {
    const closed = await startEvilProvider();
    await closed.down();
    world = await startWorldAt(closed);
    expect(await attemptLogin(world)).toMatchObject({ status: 503, isLoggedIn: false });
    expect(warnings()[0]).toMatchObject({ reason: 'authorization server: ECONNREFUSED', keepsLastGood: false });
    await closed.up();
    onTestFinished(() => closed.stop());
    await until(async () => {
      world.clock.advance(1000); // the pause between attempts
      return (await attemptLogin(world)).isLoggedIn;
    });
  });

  it('T41 that can’t be read are asked for in growing pauses, not for every login', async () => {
    const failing = await startEvilProvider();
    onTestFinished(() => failing.stop());
    failing.faults.discovery = { status: 500 };
    const startedAt = performance.now();
    world = await startWorldAt(failing);
    for (let count = 0; count < 20; count++) await attemptLogin(world);
    // The clock of the world stands still; but after half a second, one more, two more it is tried by itself.
    const pauses = (performance.now() - startedAt) / 500;
    expect(failing.requestsTo('discovery').length).toBeLessThanOrEqual(1 + Math.floor(Math.log2(pauses + 1)));
  });

  const downgrades: [what: string, fault: (issuer: string) => DiscoveryFault, reason: RegExp][] = [
    [
      'name a token endpoint on another host',
      metadata({ token_endpoint: 'http://127.0.0.1:1/token' }),
      /token_endpoint moved/,
    ],
    [
      'name a login page on another host',
      metadata({ authorization_endpoint: 'https://evil.example/login' }),
      /authorization_endpoint moved/,
    ],
    ['name a key set on another host', metadata({ jwks_uri: 'https://evil.example/jwks' }), /jwks_uri moved/],
    ['name another issuer', () => ({ issuer: 'https://evil.example' }), /issuer in the metadata is another one/],
    ['offer no PKCE any more', metadata({ code_challenge_methods_supported: [] }), /PKCE S256/],
    ['redirect', (issuer) => ({ redirectTo: `${issuer}/forged-jwks` }), /answered with 302/],
    ['are gone', () => ({ status: 404 }), /answered with 404/],
    ['are garbage', () => ({ body: 'garbage' }), /OAUTH_PARSE_ERROR/],
    ['never come', () => ({ hang: true }), /timeout/],
  ];

  it.each(downgrades)('T41 that %s are refused, and the last good ones kept', async (_what, fault, reason) => {
    world = await startTimedWorld({
      config: ({ authorizationServer }) => {
        authorizationServer.timeout = '500ms';
      },
    });
    expect((await attemptLogin(world)).isLoggedIn).toBe(true);
    world.provider.faults.discovery = fault(world.provider.issuer);
    await readAgain();
    expect(warnings()).toMatchObject([{ keepsLastGood: true, reason: expect.stringMatching(reason) }]);
    expect((await attemptLogin(world)).isLoggedIn).toBe(true);
    expect(world.provider.requestsTo('forged-jwks')).toEqual([]);
  });

  it('T41 that change in an allowed way are taken over', async () => {
    world = await startTimedWorld();
    expect((await attemptLogin(world)).isLoggedIn).toBe(true);
    const { issuer } = world.provider;
    world.provider.faults.discovery = metadata({ authorization_endpoint: `${issuer}/new-login` })();
    world.clock.advance(3_600_001);
    const locationOf = async () =>
      (await world.browser().navigate('/bff/login', { from: world.origin, followRedirects: false })).header('location');
    await until(async () => (await locationOf())?.startsWith(`${issuer}/new-login`));
    expect(world.provider.requestsTo('discovery')).toHaveLength(2);
  });
});

describe('metadataMaxAge', () => {
  it('says when metadata are read again', async () => {
    world = await startTimedWorld({
      config: ({ authorizationServer }) => {
        authorizationServer.metadataMaxAge = '10m';
      },
    });
    await attemptLogin(world);
    world.clock.advance(600_000);
    await attemptLogin(world);
    expect(world.provider.requestsTo('discovery')).toHaveLength(1);
    world.clock.advance(1);
    await until(async () => {
      await attemptLogin(world);
      return world.provider.requestsTo('discovery').length > 1;
    });
  });

  it('of nothing keeps none: what they say now counts, be it good or bad', async () => {
    world = await startTimedWorld({
      config: ({ authorizationServer }) => {
        authorizationServer.metadataMaxAge = '0s';
      },
    });
    const asked = () => world.provider.requestsTo('authorize').length;
    expect((await attemptLogin(world)).isLoggedIn).toBe(true);
    world.provider.faults.discovery = { issuer: 'https://evil.example' };
    expect((await attemptLogin(world)).isLoggedIn).toBe(false);
    expect(asked()).toBe(1);
    expect(warnings()).toMatchObject([{ keepsLastGood: false }]);
    // No pause either: the next login is another matter.
    delete world.provider.faults.discovery;
    expect((await attemptLogin(world)).isLoggedIn).toBe(true);
    world.provider.faults.discovery = metadata({ end_session_endpoint: undefined })();
    const browser = await world.loggedIn();
    const logout = await browser.fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } });
    expect(logout.json()).toEqual({ endSessionUrl: null });
  });
});
