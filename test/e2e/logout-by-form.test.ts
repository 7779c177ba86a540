import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect } from 'vitest';
import { type ConfigData, startWorld } from '../support/world.ts';
import { expectNobody, goToLogin, logIn } from './support/spa.ts';
import { it as story } from './support/story.ts';

// `idTokenHint: post`: the ID token reaches the provider in a form that a page of ours sends (RP-Initiated Logout §2).

const it = story.extend('demoOptions', {
  provider: { takesForms: true },
  config: (data: ConfigData) => Object.assign(data.authorizationServer, { idTokenHint: 'post' }),
});

describe('W45 a logout with the hint in a form', () => {
  it('W45 ends both sessions and comes back', async ({ demo, visitor }) => {
    visitor.expectIdTokenAt('/bff/end-session');
    const requests: string[] = [];
    visitor.context.on('request', (request) =>
      requests.push(`${request.method()} ${request.url()} ${request.postData() ?? ''}`),
    );
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'alice');
    await tab.getByTestId('logout').click();
    await tab.getByRole('button', { name: 'Yes, log me out' }).click();
    await expectNobody(tab);

    const [post, ...more] = requests.filter(
      (request) => request.startsWith('POST') && request.includes('id_token_hint'),
    );
    expect(more).toEqual([]);
    expect(post).toMatch(/^POST http:\/\/127\.0\.0\.1:\d+\/session\/end client_id=cloakroom-demo&/);
    expect(post).toContain(demo.idTokens.at(-1));
    expect(requests.filter((request) => /^\S+ \S*id_token_hint/.test(request))).toEqual([]);
    expect(new URL(tab.url()).origin).toBe(demo.origin);
    await goToLogin(tab, demo.origin);
  });

  it('W45 shows the ID token to no script of ours, however it asks', async ({ demo, visitor }) => {
    visitor.expectIdTokenAt('/bff/end-session');
    const tab = await visitor.openTab();
    await logIn(tab, demo.origin, 'alice');
    const seen = await tab.evaluate<Record<string, string>>(SPY);
    expect(Object.keys(seen)).toEqual(['address', 'fetch', 'frame', 'window']);
    expect(seen.address).toMatch(new RegExp(`^${demo.origin}/bff/end-session\\?`));
    expect(seen.fetch).not.toContain('id_token_hint');
    expect(seen.frame).toBe('refused');
    expect(seen.window).toBe('lost');
    // All the same that window has sent the form.
    const [, other] = visitor.context.pages();
    await other?.getByRole('button', { name: 'Yes, log me out' }).waitFor();
    visitor.forgiveFailedLoads(401);
  });

  it('W45 follows the provider’s redirects, wherever they lead before they come back', async ({ chromium }) => {
    const world = await startWorld({
      store: 'memory',
      idTokenAt: ['/bff/logout'],
      config: (data) => Object.assign(data.authorizationServer, { idTokenHint: 'post' }),
    });
    // The provider logs out of its own upstream, which is yet another site.
    const upstream = createServer((_request, response) =>
      response.writeHead(302, { location: `${world.origin}/` }).end(),
    );
    await new Promise<void>((resolve) => upstream.listen(0, '127.0.0.1', resolve));
    const elsewhere = `http://127.0.0.1:${(upstream.address() as AddressInfo).port}/logout`;
    world.provider.faults.endSession = { redirectTo: elsewhere };

    const tab = await chromium.newPage();
    const loaded: string[] = [];
    tab.on('response', (response) => loaded.push(`${response.request().method()} ${response.url().split('?')[0]}`));
    await tab.goto(`${world.origin}/bff/login`);
    await tab.goto(`${world.origin}/bff/session`);
    const { logoutUrl } = JSON.parse(await tab.locator('body').innerText()) as { logoutUrl: string };
    loaded.length = 0;
    await tab.goto(`${world.origin}${logoutUrl}`);
    await expect
      .poll(() => loaded)
      .toEqual([
        `GET ${world.origin}/bff/logout`,
        `POST ${world.provider.issuer}/end_session`,
        `GET ${elsewhere}`,
        `GET ${world.origin}/`,
      ]);
    expect(world.provider.requestsTo('endSession')[0]?.params.get('id_token_hint')).toMatch(/^eyJ/);
    // Not null: servers that look at where a form comes from can tell.
    expect(world.provider.requestsTo('endSession')[0]?.headers.origin).toBe(world.origin);
    await tab.close();
    await new Promise((resolve) => upstream.close(resolve));
    await world.stop();
  });
});

/**
 * What an injected script might try, in a string: the tests' own TypeScript knows no DOM. Looks into the window that it
 * opened as often as it can, until that has gone on to the provider.
 */
const SPY = `(async () => {
  const logOut = await fetch('/bff/logout', { method: 'POST', headers: { 'x-csrf': '1' } });
  const address = (await logOut.json()).endSessionUrl;
  const answer = await fetch(address);
  const fetched = answer.url + await answer.text();
  const frame = document.createElement('iframe');
  const loaded = new Promise((resolve) => { frame.onload = resolve; });
  frame.src = address;
  document.body.append(frame);
  await loaded;
  let framed = 'refused';
  try { framed = frame.contentDocument?.documentElement.outerHTML.includes('id_token_hint') ? 'shown' : 'refused'; } catch {}
  const opened = window.open(address);
  for (const until = performance.now() + 10_000; performance.now() < until && !opened.closed; ) {
    try { if (opened.document.documentElement?.outerHTML.includes('id_token_hint')) return { window: 'shown' }; } catch {}
    await new Promise((resolve) => setTimeout(resolve));
  }
  return { address, fetch: fetched, frame: framed, window: opened.closed ? 'lost' : 'kept' };
})()`;
