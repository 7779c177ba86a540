import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { assertNoSecrets } from '../support/canary.ts';
import { type ConformanceModule, modulesOf, modules, type Plan } from '../support/conformance/modules.ts';
import { play, startSuiteWorld, type SuiteWorld } from '../support/conformance/play.ts';
import type { Registration } from '../support/conformance/suite.ts';
import { subject } from '../support/conformance/user.ts';

// docs/conformance.md: each module of the OpenID Foundation's suite for relying parties, in a process of its own.

async function inOwnWorld(
  module: ConformanceModule,
  responseMode: Registration['responseMode'],
  isSo: (world: SuiteWorld) => Promise<void>,
): Promise<void> {
  const world = await startSuiteWorld(responseMode);
  await isSo(world);
  await world.stop();
  assertNoSecrets({ secrets: world.suite.secrets, haystacks: [{ name: 'log', text: world.world.log.text() }] });
}

export async function expectPassed(world: SuiteWorld, module: ConformanceModule): Promise<void> {
  const { run, session, page } = await play(world, module);
  expect({ verdict: world.suite.verdict(run), isLoggedIn: session.authenticated }, page.text.slice(0, 500)).toEqual({ verdict: [], isLoggedIn: module.expects === 'login' });
}

describe.each(['basic', 'config', 'rpInitiated', 'backChannel', 'frontChannel'] satisfies Plan[])('%s', (plan) => {
  it.each(modulesOf(plan))('$name', (module) => inOwnWorld(module, 'query', (world) => expectPassed(world, module)));
});
