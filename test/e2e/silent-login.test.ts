import type { Page } from 'playwright-core';
import { describe, expect } from 'vitest';
import { type Demo, startDemo } from '../support/demo.ts';
import { freePort } from '../support/redis.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import type { ConfigData } from '../support/world.ts';
import { startForeignSite } from './support/foreign-site.ts';
import { expectNobody, expectUser, logIn } from './support/spa.ts';
import { it as base } from './support/story.ts';
import { createVisitor } from './support/visitor.ts';

// W28 with a real provider and a real browser's rules for cookies and frames.

const it = base.extend('demoConfig', () => (data: ConfigData) => {
  data.authorizationServer.silentLoginFrame = true;
});

/** Opens a hidden frame in the page, and waits for what it says. */
async function askInFrame(tab: Page, src = '/bff/login?prompt=none'): Promise<unknown> {
  return tab.evaluate(`new Promise((resolve) => {
    const frame = document.createElement('iframe');
    const end = (answer) => { removeEventListener('message', hear); frame.remove(); resolve(answer); };
    const hear = ({ data, origin, source }) => {
      if (source === frame.contentWindow) end({ ...data, isFromUs: origin === location.origin });
    };
    addEventListener('message', hear);
    setTimeout(end, 20000, 'nothing was said');
    frame.hidden = true;
    frame.src = ${JSON.stringify(src)};
    document.body.append(frame);
  })`);
}
const sessionOf = (tab: Page) => tab.evaluate(`fetch('/bff/session').then((answer) => answer.json())`);
const said = (outcome: string, code?: string) => ({
  source: 'bff-silent-login',
  isLoggedIn: outcome === 'logged_in',
  outcome,
  isFromUs: true,
  ...(code === undefined ? {} : { code }),
});

/** The user is logged in at the provider; our own cookies are gone, as after an idle timeout. */
async function loseSession(tab: Page, demo: Demo): Promise<void> {
  const { hostname } = new URL(demo.origin);
  await tab.context().clearCookies({ name: `cloakroom_${new URL(demo.origin).port}`, domain: hostname });
  await tab.reload({ waitUntil: 'networkidle' });
  await expectNobody(tab);
}

describe('W28 a silent login as a page', () => {
  it('W28 comes back not logged in, and then logged in without a form', async ({ demo, visitor }) => {
    const tab = await visitor.openTab();
    const back = `${demo.origin}/shop?x=1#deep`;
    const silently = `/bff/login?prompt=none&return_to=${encodeURIComponent('/shop?x=1#deep')}`;
    await tab.goto(demo.origin);
    await tab.evaluate(`location.href = ${JSON.stringify(silently)}`);
    await tab.waitForURL(back);
    await expectNobody(tab);
    expect(await sessionOf(tab)).toMatchObject({ authenticated: false, silentLogin: 'login_required' });

    await logIn(tab, demo.origin, 'alice');
    await loseSession(tab, demo);
    await tab.evaluate(`location.href = ${JSON.stringify(silently)}`);
    await tab.waitForURL(back);
    await expectUser(tab, 'alice');
    expect(await sessionOf(tab)).not.toHaveProperty('silentLogin');
  });
});

describe('W28 a silent login in a frame', () => {
  it('W28 of a provider on another site finds nobody: browsers keep its cookies back', async ({ demo, visitor }) => {
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'alice');
    await loseSession(tab, demo);
    expect(await askInFrame(tab)).toEqual(said('login_required'));
    expect(await sessionOf(tab)).toMatchObject({ authenticated: false, silentLogin: 'login_required' });
  });

  it('W28 without prompt=none, and in a frame of another site, logs nobody in', async ({ chromium, demo, visitor }) => {
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'alice');
    visitor.expectFailedLoad(400, '/bff/login');
    expect(await askInFrame(tab, '/bff/login')).toEqual(said('failed', 'BFF_LOGIN_NOT_NAVIGATION'));

    const site = await startForeignSite();
    const foreign = await chromium.newContext();
    const page = await foreign.newPage();
    const statuses: number[] = [];
    page.on('response', (response) => response.url().startsWith(demo.origin) && statuses.push(response.status()));
    await page.goto(site.origin);
    // What its script says would be heard before it has loaded.
    const heard = await page.evaluate(`new Promise((resolve) => {
      const frame = document.createElement('iframe');
      addEventListener('message', ({ data }) => resolve(data));
      frame.onload = () => setTimeout(resolve, 0, 'nothing was said');
      frame.src = ${JSON.stringify(`${demo.origin}/bff/login?prompt=none`)};
      document.body.append(frame);
    })`);
    expect([statuses, heard]).toEqual([[400], 'nothing was said']);
    expect(await foreign.cookies(demo.origin)).toEqual([]);
    await foreign.close();
    await site.stop();
  });

  it('W28 of a provider on the same site logs in', async ({ chromium }) => {
    const port = await freePort();
    const issuer = `http://localhost:${port}`;
    const demo = await startDemo({
      provider: { port, issuer },
      config({ authorizationServer }) {
        Object.assign(authorizationServer, { issuer, silentLoginFrame: true });
      },
    });
    const visitor = await createVisitor(chromium, demo);
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'alice');
    await loseSession(tab, demo);
    expect(await askInFrame(tab)).toEqual(said('logged_in'));
    expect(await sessionOf(tab)).toMatchObject({ authenticated: true });

    await visitor.leave();
    await demo.stop();
    expect(demo.log.errors()).toEqual([]);
  });

  it('W28 takes whatever way the answer takes into the frame, and never another user', async ({ chromium }) => {
    const world = await startTimedWorld({
      config(data) {
        data.authorizationServer.silentLoginFrame = true;
        data.files = 'demo/spa';
      },
    });
    const context = await chromium.newContext();
    const tab = await context.newPage();
    await tab.goto(world.origin);
    expect(await askInFrame(tab)).toEqual(said('logged_in'));
    expect(await sessionOf(tab)).toMatchObject({ authenticated: true, user: { sub: 'alice' } });

    // By a script of the provider's page the callback has no cookie of ours, and could set none.
    world.provider.faults = { authorize: { isByScript: true } };
    const before = await context.cookies(world.origin);
    expect(await askInFrame(tab)).toEqual(said('logged_in'));
    expect(await context.cookies(world.origin)).not.toEqual(before);

    world.provider.nextLogin({ sub: 'bob' });
    expect(await askInFrame(tab)).toEqual(said('other_user', 'BFF_LOGIN_OTHER_USER'));
    expect(await sessionOf(tab)).toMatchObject({ user: { sub: 'alice' }, silentLogin: 'other_user' });
    world.provider.faults = { tokenResponse: { status: 503 } };
    expect(await askInFrame(tab)).toEqual(said('failed', 'BFF_AUTHORIZATION_SERVER_UNAVAILABLE'));
    await context.close();
    await world.stop();
  });
});
