import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Browser } from '../support/browser.ts';
import { isLoggedIn, startLogin } from '../support/login-steps.ts';
import { startWorld, type World } from '../support/world.ts';

describe('response_mode=form_post', () => {
  let world: World;
  beforeAll(async () => {
    world = await startWorld({
      store: 'memory',
      config: (data) => {
        data.authorizationServer.responseMode = 'form_post';
      },
    });
  });
  afterAll(() => world.stop());
  beforeEach(() => world.provider.reset());

  /** The fields of the form that the authorization server's page would submit. */
  async function pendingForm(browser: Browser): Promise<URLSearchParams> {
    const html = await (await fetch(await startLogin(browser, '/shop'))).text();
    const inputs = html.matchAll(/name="([^"]*)" value="([^"]*)"/g);
    return new URLSearchParams(Array.from(inputs, ([, name = '', value = '']): [string, string] => [name, value]));
  }
  const submit = (browser: Browser, body: URLSearchParams | string | Record<string, unknown>, type?: string) =>
    browser.navigate('/bff/callback', {
      from: world.provider.issuer,
      method: 'POST',
      body,
      followRedirects: false,
      ...(type === undefined ? {} : { headers: { 'content-type': type } }),
    });

  it('logs in by a form of the authorization server', async () => {
    const browser = world.browser();
    const page = await browser.login('/shop');
    expect(page.hops.map(({ method }) => method)).toContain('POST');
    expect(page.url).toBe(`${world.origin}/shop`);
    expect(world.provider.requestsTo('authorize')[0]?.params.get('response_mode')).toBe('form_post');
    expect(await isLoggedIn(browser)).toBe(true);
  });

  it('lets only the login cookie travel cross-site; the session cookie stays strict', async () => {
    const browser = world.browser();
    const started = await browser.navigate('/bff/login', { from: world.origin, followRedirects: false });
    expect(started.setCookies.join()).toMatch(/; HttpOnly; Secure; SameSite=None$/);
    const page = await browser.login('/shop');
    const session = page.hops.flatMap(({ setCookies }) => setCookies).find((one) => one.startsWith('cloakroom='));
    expect(session).toContain('SameSite=Strict');
    expect(browser.rejectedCookies).toEqual([]);
  });

  it('T20 takes no response by GET', async () => {
    const browser = world.browser();
    const form = await pendingForm(browser);
    const page = await browser.navigate(`/bff/callback?${form}`, { followRedirects: false });
    expect(page.status).toBe(405);
    expect(page.header('allow')).toBe('POST');
    expect(world.provider.tokenRequests()).toHaveLength(0);
  });

  it('T20 takes no parameter from the query beside the form', async () => {
    const browser = world.browser();
    const form = await pendingForm(browser);
    const code = form.get('code') ?? '';
    form.delete('code');
    const page = await browser.navigate(`/bff/callback?code=${code}`, {
      from: world.provider.issuer,
      method: 'POST',
      body: form,
      followRedirects: false,
    });
    expect(page.status).toBe(400);
    expect(world.provider.tokenRequests()).toHaveLength(0);
  });

  it('T13 refuses a form that another site submits with its own code', async () => {
    const form = await pendingForm(world.browser());
    const victim = world.browser();
    const page = await victim.crossSite('/bff/callback', { from: 'https://evil.example', kind: 'form', body: form });
    expect(page.status).toBe(400);
    expect(world.provider.tokenRequests()).toHaveLength(0);
    expect(await isLoggedIn(victim)).toBe(false);
  });

  it('T16 refuses a duplicated or missing state in the form', async () => {
    for (const change of [
      (form: URLSearchParams) => form.append('state', form.get('state') ?? ''),
      (form: URLSearchParams) => form.append('code', 'x'),
      (form: URLSearchParams) => form.delete('state'),
    ]) {
      const browser = world.browser();
      const form = await pendingForm(browser);
      change(form);
      expect((await submit(browser, form)).status).toBe(400);
    }
    expect(world.provider.tokenRequests()).toHaveLength(0);
  });

  it('T20 reads no response out of JSON, text or multipart', async () => {
    const browser = world.browser();
    const form = await pendingForm(browser);
    for (const type of ['application/json', 'text/plain', 'multipart/form-data; boundary=x', 'application/xml']) {
      expect([400, 415]).toContain((await submit(browser, form.toString(), type)).status);
    }
    expect(world.provider.tokenRequests()).toHaveLength(0);
    expect((await submit(browser, form)).status).toBe(303);
  });

  it('T21 refuses a form of 20 KiB, of 1 MB, and of 200 fields', async () => {
    const browser = world.browser();
    const form = await pendingForm(browser);
    const many = Array.from({ length: 200 }, (_, index) => `p${index}=1`).join('&');
    for (const more of [`x=${'a'.repeat(20_000)}`, `x=${'a'.repeat(1_000_000)}`, many]) {
      const page = await submit(browser, `${form}&${more}`, 'application/x-www-form-urlencoded');
      expect([400, 413]).toContain(page.status);
    }
    expect(world.provider.tokenRequests()).toHaveLength(0);
  });

  it('T15 redeems a form once that is submitted twice', async () => {
    const browser = world.browser();
    const form = await pendingForm(browser);
    const pages = await Promise.all([submit(browser, form), submit(browser.clone(), form)]);
    expect(pages.map(({ status }) => status).sort((a, b) => a - b)).toEqual([303, 400]);
    expect(world.provider.tokenRequests()).toHaveLength(1);
  });
});

it('T20 keeps POST out of the callback unless form_post is configured, and asks for no response_mode', async () => {
  const world = await startWorld({ store: 'memory' });
  const url = await startLogin(world.browser());
  expect(url.searchParams.has('response_mode')).toBe(false);
  const page = await world
    .browser()
    .navigate('/bff/callback', { method: 'POST', body: new URLSearchParams({ code: 'x' }) });
  expect(page.status).toBe(405);
  await world.stop();
});
