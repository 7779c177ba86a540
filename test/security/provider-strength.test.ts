import { afterEach, describe, it } from 'vitest';
import type { JwtFault } from '../support/evil-provider/faults.ts';
import { expectIdTokensAccepted, expectIdTokensRefused } from '../support/login-attempt.ts';
import { startTimedWorld } from '../support/timed-world.ts';
import type { World } from '../support/world.ts';

let world: World;
afterEach(() => world.stop());

async function start(asked: Record<string, unknown>): Promise<void> {
  world = await startTimedWorld({ config: ({ authorizationServer }) => Object.assign(authorizationServer, asked) });
}

const claims = (changed: Record<string, unknown>): JwtFault => ({ claims: changed });

describe('an ID token and what was asked for', () => {
  const notStrong = [403, 'BFF_LOGIN_NOT_STRONG_ENOUGH'] as const;

  it('T40 gives no session when its acr is not one that was asked for', async () => {
    await start({ acrValues: ['gold', 'silver'] });
    await expectIdTokensAccepted(world, [
      ['gold', {}],
      ['silver', claims({ acr: 'silver' })],
    ]);
    await expectIdTokensRefused(
      world,
      [
        ['lower', claims({ acr: 'bronze' })],
        ['none', claims({ acr: undefined })],
        ['both in one text', claims({ acr: 'gold silver' })],
        ['as array', claims({ acr: ['gold'] })],
        ['other case', claims({ acr: 'Gold' })],
      ],
      ...notStrong,
    );
  });

  it('T40 gives no session when the user authenticated longer ago than max_age', async () => {
    await start({ maxAge: '5m' });
    const now = world.clock.now() / 1000;
    await expectIdTokensAccepted(world, [
      ['now', claims({ auth_time: now })],
      ['at the edge', claims({ auth_time: now - 310 })],
    ]);
    await expectIdTokensRefused(
      world,
      [
        ['one second past', claims({ auth_time: now - 311 })],
        ['none', claims({ auth_time: undefined })],
        ['in the future', claims({ auth_time: now + 3600 })],
        ['1e300', claims({ auth_time: 1e300 })],
      ],
      ...notStrong,
    );
    await expectIdTokensRefused(world, [['as text', claims({ auth_time: String(now) })]]);
  });
});
