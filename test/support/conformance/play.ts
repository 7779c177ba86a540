import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import type { Page } from '../browser/page.ts';
import type { Browser } from '../browser.ts';
import { leadsTo } from '../login-steps.ts';
import { postForm } from '../logout-token.ts';
import { type ConfigData, startWorld, type World } from '../world.ts';
import { frameUrl } from './logout.ts';
import type { ConformanceModule } from './modules.ts';
import type { Registration, Run } from './run.ts';
import { type Suite, startSuite } from './suite.ts';

/** A Cloakroom, configured as docs/conformance.md says, whose authorization server is the suite. */
export interface SuiteWorld {
  world: World;
  suite: Suite;
  registration: Registration;
  stop(): Promise<void>;
}

/** The one configuration in docs/conformance.md. */
export function documentedConfig(): ConfigData {
  const page = readFileSync('docs/conformance.md', 'utf8');
  return parse(/^```yaml\n([\s\S]*?)^```/m.exec(page)?.[1] ?? '') as ConfigData;
}

export async function startSuiteWorld(
  responseMode: Registration['responseMode'] = 'query',
  change: (data: ConfigData) => void = () => {},
): Promise<SuiteWorld> {
  const suite = await startSuite();
  const { issuer, clientId, clientSecret } = suite;
  const world = await startWorld({
    config(data) {
      const { authorizationServer } = documentedConfig();
      Object.assign(data.authorizationServer, authorizationServer, { issuer, clientId, clientSecret, responseMode });
      data.files = 'demo/spa';
      change(data);
    },
  });
  return {
    world,
    suite,
    registration: {
      responseMode,
      redirectUri: `${world.origin}/bff/callback`,
      postLogoutRedirectUri: `${world.origin}/`,
      frontchannelLogoutUri: `${world.origin}/bff/frontchannel-logout`,
      async postToBackChannel(form) {
        const type = 'application/x-www-form-urlencoded;charset=UTF-8';
        const { status, headers } = await postForm(world, form.toString(), { type });
        return { status, cacheControl: String(headers['cache-control']) };
      },
    },
    async stop() {
      await suite.stop();
      await world.stop();
    },
  };
}

export interface Played {
  run: Run;
  browser: Browser;
  /** Where the last login ended. */
  page: Page;
  session: { authenticated: boolean; user?: Record<string, unknown>; logoutUrl?: string };
  /** Where the logout ended. */
  after?: Page;
}

/** What a person with a browser does for a module: log in, as often as it takes, and out where it is about that. */
export async function play({ world, suite, registration }: SuiteWorld, module: ConformanceModule): Promise<Played> {
  const run = suite.begin(module, registration);
  const browser = world.browser();
  const from = new URL(suite.issuer).origin;
  let page = module.isBegunElsewhere
    ? await browser.navigate(`/bff/login?${new URLSearchParams({ iss: suite.issuer })}`, { from })
    : await browser.login('/');
  const next = leadsTo(page);
  if (next !== undefined) page = await browser.navigate(next, { from: browser.origin });
  for (let count = 1; count < (module.logins ?? 1); count++) page = await browser.login('/');
  const session = (await browser.fetch('/bff/session')).json<Played['session']>();
  const played: Played = { run, browser, page, session };
  const { logout } = module;
  if (logout === undefined || session.logoutUrl === undefined) return played;

  if (!logout.isByServer) played.after = await browser.navigate(session.logoutUrl, { from: browser.origin });
  if (logout.channels.includes('front')) {
    const frame = await browser.crossSite(frameUrl(run, suite.issuer), { from, kind: 'iframe' });
    if (frame.status !== 200) run.failures.push(`the frame of the front channel got ${frame.status}`);
    run.seen.push('frame');
    if (run.returnUrl !== undefined) played.after = await browser.navigate(run.returnUrl, { from });
  }
  return played;
}
