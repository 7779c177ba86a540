import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { call } from '../support/api-calls.ts';
import type { Page } from '../support/browser/page.ts';
import type { Browser } from '../support/browser.ts';
import { isLoggedIn } from '../support/login-steps.ts';
import { onReplica } from '../support/ticket.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld({ replicas: 2 });
});
afterAll(() => world.stop());
beforeEach(() => world.provider.reset());

async function loggedIn(sub: string, sid: string): Promise<Browser> {
  world.provider.nextLogin({ sub, sid });
  const browser = world.browser();
  await browser.login('/');
  expect(await isLoggedIn(browser)).toBe(true);
  return browser;
}

/** The provider's page has our page in a frame, in a browser that sends no cookie to frames of other sites. */
function frame(query: string, replica = 0): Promise<Page> {
  const url = `/bff/frontchannel-logout${query}`;
  return world.browser(replica).crossSite(url, { from: world.provider.issuer, kind: 'iframe' });
}

const query = (sid: string, iss = world.provider.issuer) => `?${new URLSearchParams({ iss, sid })}`;

describe('L-7 front-channel logout', () => {
  it('L-7 ends the session of iss and sid on every replica, without any cookie', async () => {
    const [gone, other] = [await loggedIn('alice', 'sid-gone'), await loggedIn('alice', 'sid-other')];
    const page = await frame(query('sid-gone'), 1);
    expect(page.status).toBe(200);
    expect(page.hops[0]?.requestHeaders.cookie).toBeUndefined();
    for (const replica of [0, 1]) expect((await call(onReplica(world, replica, gone))).status).toBe(401);
    expect((await call(other)).status).toBe(200);
  });

  it('L-7 does nothing unless iss and sid are there once, whole and ours', async () => {
    const browser = await loggedIn('alice', 'sid-kept');
    const iss = encodeURIComponent(world.provider.issuer);
    const queries = [
      '',
      `?iss=${iss}`,
      '?sid=sid-kept',
      query('sid-kept', 'https://evil.example'),
      query('sid-kept', `${world.provider.issuer}/`),
      query('sid-kept', world.provider.issuer.toUpperCase()),
      query(''),
      query('sid-foreign'),
      query('sid-kep'),
      query('*'),
      query('SID-KEPT'),
      query('x'.repeat(256)),
      `?iss=${iss}&sid[]=sid-kept`,
      `?iss=${iss}&sid=sid-kept&sid=sid-kept`,
      `?iss=${iss}&iss=${iss}&sid=sid-kept`,
      `?iss=${iss}&sub=alice`,
    ];
    for (const each of queries) expect((await frame(each)).status, each).toBe(200);
    expect((await call(browser)).status).toBe(200);
  });

  it('L-7 goes by sid, not by the cookie of the browser it runs in', async () => {
    const browser = await loggedIn('bob', 'sid-bob');
    await loggedIn('alice', 'sid-alice');
    const value = browser.cookie('cloakroom')?.value;
    browser.setCookie(`cloakroom=${value}; Path=/; SameSite=None; Secure`, { force: true });
    const page = await browser.crossSite(`/bff/frontchannel-logout${query('sid-alice')}`, {
      from: world.provider.issuer,
      kind: 'iframe',
    });
    expect(page.hops[0]?.requestHeaders.cookie).toContain('cloakroom=');
    expect(page.setCookies).toEqual([]);
    expect((await call(browser)).status).toBe(200);
  });

  it('LO12 revokes nothing: anybody who knows a sid may call it', async () => {
    const browser = await loggedIn('alice', 'sid-unrevoked');
    await frame(query('sid-unrevoked'));
    expect((await call(browser)).status).toBe(401);
    expect(world.provider.requestsTo('revocation')).toEqual([]);
    expect(world.provider.refreshFamilies().every(({ revoked }) => !revoked)).toBe(true);
  });

  it('L-7 may be framed by the issuer’s origin alone, and is kept by nobody', async () => {
    for (const each of [query('sid-x'), '', query('x', 'https://evil.example')]) {
      const page = await frame(each);
      const policy = page.header('content-security-policy');
      expect(policy).toBe(`default-src 'none'; frame-ancestors ${new URL(world.provider.issuer).origin}`);
      expect(page.header('x-frame-options')).toBeUndefined();
      expect(page.header('cache-control')).toBe('no-store');
      expect(page.header('x-content-type-options')).toBe('nosniff');
      expect(page.header('clear-site-data')).toBeUndefined(); // it would log out whatever this browser has now (LO14)
      expect(page.setCookies).toEqual([]);
      expect(page.text).not.toMatch(/sid-x|evil/);
    }
  });

  it('L-7 is the only page of ours that may be framed', async () => {
    const browser = await loggedIn('alice', 'sid-frames');
    for (const path of ['/bff/session', '/bff/login', '/bff/logout', '/bff/sessions', '/bff/nothing', '/bff']) {
      const page = await browser.fetch(path);
      expect(page.header('content-security-policy'), path).toContain("frame-ancestors 'none'");
      expect(page.header('x-frame-options'), path).toBe('DENY');
    }
    const other = await browser.fetch(`/bff/frontchannel-logout${query('sid-frames')}`, { method: 'POST' });
    expect([other.status, other.header('x-frame-options')]).toEqual([405, 'DENY']);
    expect(await isLoggedIn(browser)).toBe(true);
  });
});

describe('W49 a front-channel logout that ends nothing says why', () => {
  const iss = () => encodeURIComponent(world.provider.issuer);
  const [noIss, noSid] = ['iss is missing', 'sid is missing'];
  const faults: Record<string, [query: () => string, reasons: string[]]> = {
    'without iss and sid, as default registrations send it': [() => '', [noIss, noSid]],
    'without iss (Entra)': [() => '?sid=sid-told', [noIss]],
    'without sid': [() => `?iss=${iss()}`, [noSid]],
    'with sub instead of sid': [() => `?iss=${iss()}&sub=alice`, [noSid]],
    'with empty ones': [() => '?iss=&sid=', [noIss, noSid]],
    'with one of them twice': [() => `?iss=${iss()}&iss=${iss()}&sid=sid-told`, ['iss is there more than once']],
    'with a list': [() => `?iss=${iss()}&sid[]=sid-told`, [noSid]],
    'with a sid that is none': [() => query('x'.repeat(256)), ['sid is too long']],
    'of another issuer': [() => query('sid-told', 'https://evil.example'), ['iss is another issuer']],
    'of an issuer with a slash too many': [
      () => query('sid-told', `${world.provider.issuer}/`),
      ['iss is another issuer'],
    ],
  };

  it.each(Object.entries(faults))('W49 %s', async (_name, [toQuery, reasons]) => {
    const browser = await loggedIn('alice', 'sid-told');
    const before = world.log.warnings().length;
    const page = await frame(toQuery());
    expect([page.status, page.header('content-type')]).toEqual([200, 'text/html; charset=utf-8']);
    expect(page.text).toContain('<title>Not logged out</title>');
    for (const reason of reasons) expect(page.text).toContain(reason);
    expect(page.text).not.toMatch(/sid-told|evil/);
    const lines = world.log.warnings().slice(before);
    expect(lines).toEqual([
      expect.objectContaining({
        frontend: 'default',
        reasons,
        audit: 'front_channel_logout_refused',
        msg: expect.stringContaining(
          reasons[0] === noIss || reasons[0] === noSid ? 'frontchannel_logout_session_required' : 'ended nothing',
        ),
      }),
    ]);
    expect((await call(browser)).status).toBe(200);
  });

  it('W49 shows the issuer that came beside ours, if it is one', async () => {
    const before = world.log.warnings().length;
    await frame(query('x', `${world.provider.issuer}/`));
    await frame(query('x', 'javascript:alert(1)\n{"level":"error"}'));
    await frame(query('x', `https://evil.example/${'x'.repeat(300)}`));
    await frame(query('x', 'https://user:password@evil.example/?token=abc#x'));
    const { issuer } = world.provider;
    const shown = world.log
      .warnings()
      .slice(before)
      .map(({ expected, received }) => [expected, received]);
    expect(shown).toEqual([
      [issuer, `${issuer}/`],
      [issuer, undefined],
      [issuer, undefined],
      [issuer, undefined],
    ]);
  });

  it('W49 says "Logged out" of a session that is over already, or never was here', async () => {
    const before = world.log.warnings().length;
    const page = await frame(query('sid-unknown'));
    expect(page.text).toContain('<title>Logged out</title>');
    expect(world.log.warnings()).toHaveLength(before);
  });
});
