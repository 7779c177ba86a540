import { afterEach, describe, expect, it } from 'vitest';
import { assertNoSecrets } from '../support/canary.ts';
import { type ConformanceModule, modules, modulesOf, type Plan, plans } from '../support/conformance/modules.ts';
import { type Played, play, type SuiteWorld, startSuiteWorld } from '../support/conformance/play.ts';
import { claimsOfScope, subject } from '../support/conformance/user.ts';
import { shuffled } from '../support/random.ts';
import type { ConfigData } from '../support/world.ts';

// docs/conformance.md: the modules of the OpenID Foundation's suite for relying parties. Its server is played by
// test/support/conformance; what passes there has to pass here, and more: whom it logs in, and what a refusal leaves.

let suiteWorld: SuiteWorld | undefined;
afterEach(async () => {
  if (suiteWorld === undefined) return;
  const { suite, world, stop } = suiteWorld;
  suiteWorld = undefined;
  await stop();
  assertNoSecrets({ secrets: suite.secrets, haystacks: [{ name: 'log', text: world.log.text() }] });
});

async function start(...how: Parameters<typeof startSuiteWorld>): Promise<SuiteWorld> {
  suiteWorld = await startSuiteWorld(...how);
  return suiteWorld;
}

const named = (name: string) => modules.find((module) => module.name === name) as ConformanceModule;

async function expectPassed(suiteWorld: SuiteWorld, module: ConformanceModule): Promise<Played> {
  const { log } = suiteWorld.world;
  const warned = log.warnings().length;
  const played = await play(suiteWorld, module);
  const { run, session, page, browser, after } = played;
  const { name } = module;
  const outcome = { name, verdict: suiteWorld.suite.verdict(run), isLoggedIn: session.authenticated };
  expect(outcome, page.text).toEqual({ name, verdict: [], isLoggedIn: module.expects === 'login' });
  if (module.expects === 'login') expect(session.user).toMatchObject({ sub: subject });
  else {
    // A refusal is told to the person and, with its reason, in the log; it leaves nothing behind.
    expect([page.status >= 400, browser.allCookies()], name).toEqual([true, []]);
    const reasons = log
      .warnings()
      .slice(warned)
      .map(({ reason, fault }) => reason ?? (fault as { reason?: string } | undefined)?.reason);
    expect(reasons.join('; '), name).toMatch(module.told as RegExp);
  }
  if (module.logout !== undefined) {
    expect((await browser.fetch('/bff/session')).json()).toMatchObject({ authenticated: false });
    if (after !== undefined) expect([new URL(after.url).pathname, after.status]).toEqual(['/', 200]);
  }
  return played;
}

for (const plan of Object.keys(plans) as Plan[]) {
  describe(plans[plan], () => {
    for (const module of modulesOf(plan)) {
      it(module.name, async () => {
        const { page } = await expectPassed(await start(plan === 'formPost' ? 'form_post' : 'query'), module);
        const wasPosted = page.hops.some(({ method, url }) => method === 'POST' && url.endsWith('/bff/callback'));
        expect(wasPosted).toBe(plan === 'formPost');
      });
    }
  });
}

/** Other sites may begin a login here. */
function admitted({ authorizationServer }: ConfigData): void {
  authorizationServer.thirdPartyInitiatedLogin = true;
}

describe('in none of these plans', () => {
  for (const module of modules.filter((module) => module.plans.length === 0)) {
    it(module.name, async () => void (await expectPassed(await start('query', admitted), module)));
  }
});

it('every module is played under its name, in each of its plans', ({ task }) => {
  const played = task.file.tasks.flatMap((group) =>
    group.type === 'suite' ? group.tasks.map(({ name }) => `${group.name} > ${name}`) : [],
  );
  const expected = modules.flatMap(({ name, plans: those }) =>
    (those.length === 0 ? ['in none of these plans'] : those.map((plan) => plans[plan])).map(
      (group) => `${group} > ${name}`,
    ),
  );
  expect(played).toEqual(expect.arrayContaining(expected));
});

it('oidcc-client-test-scope-userinfo-claims: the user has the claims that the scopes ask for', async () => {
  const ours = await start('query', (data) => {
    data.session.claims = ['sub', 'name', 'email', 'email_verified', 'phone_number', 'address'];
  });
  const { session } = await expectPassed(ours, named('oidcc-client-test-scope-userinfo-claims'));
  const { sub, name, email, email_verified, phone_number, address } = claimsOfScope('profile email phone address');
  expect(session.user).toEqual({ sub, name, email, email_verified, phone_number, address });
});

describe('back to back on one process and one issuer: keys, kids, algorithms and metadata change with every module', () => {
  const seeds = [1, 2, 3];
  const playAll = async (all: ConformanceModule[], ...how: Parameters<typeof start>) => {
    const ours = await start(...how);
    for (const module of all) await expectPassed(ours, module);
  };

  it('every module, as they stand', () => playAll(modules, 'query', admitted));

  it.each(seeds)('every module, in the order of seed %i', (seed) =>
    playAll(shuffled(modules, seed), 'query', admitted),
  );

  it.each(seeds)('the Form Post plan, in the order of seed %i', (seed) =>
    playAll(shuffled(modulesOf('formPost'), seed), 'form_post'),
  );

  // The keys change as often. What else the metadata say stays the same, so that it may be kept.
  const logins = [...modulesOf('basic'), ...modules.filter(({ rotates }) => rotates !== undefined)];
  it.each(seeds)('the logins with metadata that is kept for an hour, in the order of seed %i', (seed) =>
    playAll(shuffled(logins, seed), 'query', forget('metadataMaxAge')),
  );
});

/** Takes a setting out of the documented configuration. */
function forget(setting: string): (data: ConfigData) => void {
  return ({ authorizationServer }) => {
    delete authorizationServer[setting];
  };
}

describe('the documented configuration has nothing to spare', () => {
  it.each([
    ['assumePkceS256', ['oidcc-client-test']],
    ['userInfo', ['oidcc-client-test']],
    ['idTokenHint', ['oidcc-client-test-rp-init-logout']],
    ['metadataMaxAge', ['oidcc-client-test', 'oidcc-client-test-discovery-jwks-uri-keys']],
  ])('%s', async (setting, names) => {
    const ours = await start('query', forget(setting));
    const verdicts: string[] = [];
    for (const name of names) verdicts.push(...ours.suite.verdict((await play(ours, named(name))).run));
    expect(verdicts).not.toEqual([]);
  });
});
