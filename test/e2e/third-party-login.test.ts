import { describe, expect } from 'vitest';
import type { ConfigData } from '../support/world.ts';
import { type ForeignSite, startForeignSite } from './support/foreign-site.ts';
import { enterPassword, expectUser, logIn } from './support/spa.ts';
import { it as base } from './support/story.ts';

// W34: the tile of a portal on another site, as Chromium opens it.

const it = base
  .extend('demoConfig', () => (data: ConfigData) => {
    data.authorizationServer.thirdPartyInitiatedLogin = true;
  })
  .extend('portal', async ({ demo }, { onCleanup }) => {
    const portal: ForeignSite = await startForeignSite();
    onCleanup(() => portal.stop());
    const target = `${demo.origin}/shop?x=1#deep`;
    const parameters = new URLSearchParams({ iss: demo.issuer, target_link_uri: target, login_hint: 'bob' });
    const inputs = Array.from(parameters, ([name, value]) => `<input type="hidden" name="${name}" value="${value}">`);
    portal.body = `<a href="${demo.origin}/bff/login?${parameters.toString().replaceAll('&', '&amp;')}">by link</a>
      <form method="post" action="${demo.origin}/bff/login">${inputs.join('')}<button>by form</button></form>
      <a href="${demo.origin}/bff/login?return_to=%2Fshop">without iss</a>`;
    return portal;
  });

describe.each(['by link', 'by form'])('W34 the tile of a portal, %s', (how) => {
  it('W34 logs in, and after that goes straight to the target', async ({ demo, visitor, portal }) => {
    const tab = await visitor.openTab();
    const open = async () => {
      await tab.goto(portal.origin);
      await tab.getByText(how).click();
    };
    await open();
    await tab.getByLabel('Username').waitFor();
    expect(new URL(tab.url()).origin).toBe(demo.issuer);
    await enterPassword(tab, 'bob');
    await tab.waitForURL(`${demo.origin}/shop?x=1#deep`);
    await expectUser(tab, 'bob');

    const sessionCookie = async () =>
      (await visitor.context.cookies(demo.origin)).find(({ name }) => !name.includes('.'))?.value;
    const before = await sessionCookie();
    const asked: string[] = [];
    tab.on('request', (request) => asked.push(new URL(request.url()).origin));
    await open();
    await tab.waitForURL(`${demo.origin}/shop?x=1#deep`);
    await expectUser(tab, 'bob');
    expect(asked).not.toContain(demo.issuer);
    expect(await sessionCookie()).toBe(before);
  });
});

it('W34 a link without iss asks for one click', async ({ demo, visitor, portal }) => {
  const tab = await visitor.openTab();
  await logIn(tab, demo.origin, 'alice');
  await tab.goto(portal.origin);
  visitor.expectFailedLoad(403, '/bff/login');
  await tab.getByText('without iss').click();
  await tab.getByRole('link', { name: 'Start again' }).click();
  await tab.waitForURL(`${demo.origin}/shop`);
  await expectUser(tab, 'alice');
});
