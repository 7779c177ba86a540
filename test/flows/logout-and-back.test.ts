import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { forceRefresh, logOut } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { type Demo, loggedInAt, startDemo } from '../support/demo.ts';
import { until } from '../support/wait.ts';

// A real provider, where the tokens of one browser's logins belong to one grant: who revokes one revokes them all (ADR 5).

let demo: Demo;
const revokedGrants: string[] = [];
beforeAll(async () => {
  demo = await startDemo({
    config(data) {
      data.authorizationServer.timeout = '1s'; // and so the revocation comes a second after the logout
      data.log = { level: 'trace' };
    },
  });
  demo.provider.oidc.on('grant.revoked', (_context, grant) => revokedGrants.push(grant));
});
afterAll(() => demo.stop());

const isAsked = (browser: Browser) => browser.login('/').then(({ url }) => url.startsWith(demo.issuer));

describe('W45 who logs out here, not at the provider, and comes back at once', () => {
  it('W45 keeps the new session: its tokens are not revoked with those of the old one', async () => {
    const browser = await loggedInAt(demo, 'alice');
    await logOut(browser); // and the page ignores endSessionUrl, or the user the provider's question
    expect(await isAsked(browser)).toBe(false); // the provider's session goes on
    await until(() => demo.log.lines.some(({ msg }) => msg === kept), { message: 'the moment of the revocation' });
    expect(await forceRefresh(browser)).toMatchObject({ status: 200 });
    expect(revokedGrants).toEqual([]);
  });

  it('W45 of another device, or as another user, changes nothing: the old tokens are revoked', async () => {
    const elsewhere = await loggedInAt(demo, 'bob');
    const browser = await loggedInAt(demo, 'bob');
    await logOut(browser);
    const other = await loggedInAt(demo, 'carol');
    await until(() => revokedGrants.length === 1, { message: 'the revocation' });
    for (const one of [elsewhere, other]) expect((await forceRefresh(one)).status).toBe(200);
  });
});

const kept = 'refresh token was not revoked: its user has logged in again';
