import { randomBytes } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import { call } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { isLoggedIn } from '../support/login-steps.ts';
import { rawRequest } from '../support/raw-client.ts';
import { startRedisProxy } from '../support/redis-proxy.ts';
import { onReplica } from '../support/ticket.ts';
import { startWorld, type World, type WorldOptions } from '../support/world.ts';

let world: World;
let key: string;
afterEach(async () => {
  expect(world.log.text()).not.toContain(key);
  await world.stop();
});

async function start(encoding: 'hex' | 'base64' | 'base64url' = 'base64url', options: WorldOptions = {}) {
  key = randomBytes(32).toString(encoding);
  world = await startWorld({
    ...options,
    config: (data) => {
      Object.assign(data.ops, { adminKey: key });
      options.config?.(data);
    },
  });
}

async function ask(method: 'GET' | 'DELETE', query: Record<string, string> | string, authorization = `Bearer ${key}`) {
  const search = typeof query === 'string' ? query : new URLSearchParams(query).toString();
  const headers = authorization === '' ? {} : { authorization };
  const answer = await world.app.ops.inject({ method, url: `/admin/sessions?${search}`, headers });
  world.alsoSearch('answer of the admin API', answer.body);
  return answer;
}

async function logInAs(sub: string, sid?: string): Promise<Browser> {
  world.provider.nextLogin({ sub, ...(sid === undefined ? {} : { sid }) });
  const browser = world.browser();
  await browser.login('/');
  expect(await isLoggedIn(browser)).toBe(true);
  return browser;
}

/** On the second replica: the admin asked the first. */
async function statusOf(browser: Browser): Promise<number> {
  return (await call(onReplica(world, 1, browser))).status;
}

describe('SE9 the admin API', () => {
  it('SE9 lists and ends by iss and sub, and by iss and sid, on every replica', async () => {
    await start('base64url', { replicas: 2 });
    const iss = world.provider.issuer;
    const [one, two, bob] = [await logInAs('alice', 'sid-1'), await logInAs('alice', 'sid-2'), await logInAs('bob')];
    const listed = (await ask('GET', { iss, sub: 'alice' })).json<{ sessions: Record<string, unknown>[] }>();
    expect(listed.sessions.map(({ sid }) => sid).sort()).toEqual(['sid-1', 'sid-2']);
    expect(listed.sessions[0]).toMatchObject({ frontend: 'default', issuer: iss, subject: 'alice' });
    expect((await ask('DELETE', { iss, sid: 'sid-1' })).json()).toEqual({ ended: 1 });
    expect([await statusOf(one), await statusOf(two), await statusOf(bob)]).toEqual([401, 200, 200]);
    expect((await ask('DELETE', { iss, sub: 'bob', sid: 'sid-2' })).json()).toEqual({ ended: 0 });
    expect((await ask('DELETE', { iss: 'https://other.example', sub: 'alice' })).json()).toEqual({ ended: 0 });
    expect((await ask('DELETE', { iss, sub: 'alice' })).json()).toEqual({ ended: 1 });
    expect([await statusOf(two), await statusOf(bob)]).toEqual([401, 200]);
    expect(world.log.lines.filter(({ audit }) => audit === 'admin_ended_sessions')).toHaveLength(4);
  });

  it('SE9 ends everybody’s sessions of one frontend', async () => {
    await start('base64url', { replicas: 2 });
    const browsers = [await logInAs('alice'), await logInAs('bob')];
    expect((await ask('DELETE', { frontend: 'other' })).json()).toEqual({ ended: 0 });
    expect((await ask('DELETE', { frontend: 'default' })).json()).toEqual({ ended: 2 });
    for (const browser of browsers) expect(await statusOf(browser)).toBe(401);
  });

  it.each(['hex', 'base64', 'base64url'] as const)(
    'SE9 takes its key as it was configured, in %s',
    async (encoding) => {
      await start(encoding, { store: 'memory' });
      expect((await ask('GET', { frontend: 'default' })).statusCode).toBe(200);
      expect((await ask('GET', { frontend: 'default' }, `bearer ${key}`)).statusCode).toBe(200);
    },
  );

  it('SE9 refuses every other key, and says how', async () => {
    await start('hex', { replicas: 2 });
    const browser = await logInAs('alice');
    const wrong = [
      '',
      'Bearer',
      'Bearer ',
      key,
      `Basic ${key}`,
      `Bearer ${key}0`,
      `Bearer ${key}zz`,
      `Bearer ${key.slice(2)}`,
      `Bearer  ${key}`,
      `Bearer ${key}, Bearer ${key}`,
      `Bearer ${randomBytes(32).toString('hex')}`,
      `Bearer ${'0'.repeat(64)}`,
    ];
    for (const authorization of wrong) {
      for (const method of ['GET', 'DELETE'] as const) {
        const answer = await ask(method, { frontend: 'default' }, authorization);
        expect(answer.statusCode, authorization).toBe(401);
        expect(answer.headers['www-authenticate']).toContain('Bearer');
      }
    }
    expect(await statusOf(browser)).toBe(200);
    expect(world.log.warnings().filter(({ audit }) => audit === 'admin_refused')).toHaveLength(2 * wrong.length);
  });

  it('SE9 never takes a forgotten parameter for "everybody"', async () => {
    await start('base64url', { replicas: 2 });
    const browser = await logInAs('alice');
    const iss = encodeURIComponent(world.provider.issuer);
    for (const query of [
      '',
      `iss=${iss}`,
      'sub=alice',
      'sid=x',
      'frontend=',
      `iss=${iss}&sub=`,
      'iss=&sub=alice',
      `iss=${iss}&sub=alice&sub=bob`,
      'frontend=default&frontend=default',
      'frontend=default&sub=alice',
      `frontend=default&iss=${iss}`,
      'frontend=default&dry_run=1',
      `iss=${iss}&sub=alice&user=bob`,
      'frontend[]=default',
    ]) {
      for (const method of ['GET', 'DELETE'] as const) expect((await ask(method, query)).statusCode, query).toBe(400);
    }
    expect(await statusOf(browser)).toBe(200);
  });

  it('SE9 is not there without a key, and never on the port of the browsers', async () => {
    await start('base64url', { config: (data) => delete data.ops.adminKey });
    expect((await ask('GET', { frontend: 'default' })).statusCode).toBe(404);
    for (const method of ['GET', 'DELETE']) {
      const head = `${method} /admin/sessions?frontend=default HTTP/1.1\r\nHost: localhost:${world.port}`;
      const answer = await rawRequest(world.port, `${head}\r\nAuthorization: Bearer ${key}\r\n\r\n`);
      expect(answer.status).toBe(404);
    }
  });

  it('SE12 says 503 while Redis is gone, and 4xx for what is wrong with the request', async () => {
    const proxy = await startRedisProxy();
    await start('base64url', { redisUrl: proxy.redisUrl });
    const odd = await world.app.ops.inject({
      method: 'DELETE',
      url: '/admin/sessions?frontend=default',
      headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
      payload: '{',
    });
    expect(odd.statusCode).toBe(400);
    proxy.refuse();
    const answer = await ask('DELETE', { frontend: 'default' });
    expect([answer.statusCode, answer.headers['retry-after']]).toEqual([503, '1']);
    proxy.reset();
  });
});
