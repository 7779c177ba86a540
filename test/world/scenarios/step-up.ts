import { createHmac } from 'node:crypto';
import { expect } from 'vitest';
import type { Browser } from '../../support/browser.ts';
import { submit } from '../support/form.ts';
import { type App, call, logIn, type RealWorld, refresh } from '../support/real-world.ts';
import { idTokenIn } from './refreshes.ts';

const refund = (browser: Browser, app: App) => call(browser, app, '/api/orders/1/refund', { method: 'POST' });

/** Follows the link of the answer that asks for a stronger login. */
async function follow(browser: Browser, app: App) {
  const answer = await refund(browser, app);
  expect({ status: answer.status, ...answer.json() }).toMatchObject({ status: 401, code: 'BFF_STEP_UP_REQUIRED' });
  const { loginUrl } = answer.json<{ loginUrl: string }>();
  return browser.navigate(`${app.origin}${loginUrl}`, { from: app.origin });
}

/** The code of this half minute (RFC 6238). */
function oneTimeCode(secret: string): string {
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const mac = createHmac('sha1', secret).update(counter).digest();
  const offset = (mac.at(-1) as number) & 15;
  return String((mac.readUInt32BE(offset) & 0x7fffffff) % 1_000_000).padStart(6, '0');
}

export const stepUp = {
  async 'step-up in another app of the same SSO session'({ shop, server, ...world }: RealWorld) {
    const office = await world.addApp({
      change(data) {
        const require = { acr: ['gold'], maxAge: '5m' };
        data.apis.orders.routes = [{ path: '/*/refund', methods: ['POST'], require }];
      },
    });
    const user = await server.addUser();
    const browser = await world.loggedIn(user);
    const login = server.relay.overheard.findLast(({ form }) => form.get('grant_type') === 'authorization_code');
    expect(idTokenIn(login?.answer as string)).toMatchObject({ acr: 'silver' });

    await logIn(browser, office, user); // asks nothing: the SSO session is there
    const enrolment = await follow(browser, office);
    const secret = /name="totpSecret" value="([^"]+)"/.exec(enrolment.text)?.[1] as string;
    const done = await submit(browser, enrolment, { totp: oneTimeCode(secret), userLabel: 'phone' });
    expect(done.url).toBe(`${office.origin}/`);
    expect((await refund(browser, office)).status).toBe(200);

    // The shop's session lives on, and its own login has become no stronger.
    expect((await refresh(browser, shop)).status).toBe(200);
    const refreshed = idTokenIn(server.relay.refreshes().at(-1)?.answer as string);
    const { auth_time: loggedInAt } = idTokenIn(login?.answer as string);
    expect(refreshed.auth_time).toBeGreaterThan(loggedInAt as number);
    expect((await call(browser, shop, '/api/orders/1')).status).toBe(200);
    expect((await refund(browser, shop)).json()).toMatchObject({ code: 'BFF_STEP_UP_REQUIRED' });

    // What the other app had the user do counts at the server, which asks nothing again.
    expect((await follow(browser, shop)).url).toBe(`${shop.origin}/`);
    expect((await refund(browser, shop)).status).toBe(200);
  },
};
