import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { rawRequest } from '../support/raw-client.ts';
import { headerValues } from '../support/raw-response.ts';
import { startWorld, type World } from '../support/world.ts';

let world: World;
beforeEach(async () => {
  world = await startWorld();
});
afterEach(() => world.stop());

const csrf = { 'x-csrf': '1' };
const metrics = async () => (await world.app.ops.inject('/metrics')).body;

/** Every `label="value"` of the metrics page. */
async function labels(): Promise<Map<string, Set<string>>> {
  const found = new Map<string, Set<string>>();
  for (const [, name = '', value = ''] of (await metrics()).matchAll(/([a-z_]+)="((?:[^"\\]|\\.)*)"/g)) {
    found.set(name, (found.get(name) ?? new Set()).add(value));
  }
  return found;
}

describe('the ops listener', () => {
  it('OP5 says alive and ready, and nothing about the configuration', async () => {
    expect((await world.app.ops.inject('/livez')).json()).toEqual({ alive: true });
    const ready = await world.app.ops.inject('/readyz');
    expect([ready.statusCode, ready.json()]).toEqual([200, { ready: true, store: 'up', draining: false }]);
  });

  it('PO4 answers by exact path and method only', async () => {
    for (const path of ['/', '/livez/', '/LIVEZ', '/readyz/x', '/bff/session', '/api/orders/1']) {
      expect((await world.app.ops.inject(path)).statusCode, path).toBe(404);
    }
    for (const method of ['POST', 'PUT', 'DELETE', 'OPTIONS'] as const) {
      expect((await world.app.ops.inject({ method, url: '/metrics' })).statusCode, method).toBe(404);
    }
  });

  it('OP6 is not on the port of the browsers, whoever the caller says to be', async () => {
    for (const path of ['/livez', '/readyz', '/metrics', '/admin', '/healthz']) {
      for (const agent of ['GoogleHC/1.0', 'ELB-HealthChecker/2.0', 'kube-probe/1.30', 'Prometheus/3.0']) {
        const answer = await rawRequest(
          world.port,
          `GET ${path} HTTP/1.1\r\nHost: localhost:${world.port}\r\nUser-Agent: ${agent}\r\n\r\n`,
        );
        expect(answer.status, `${path} ${agent}`).toBe(404);
        expect(answer.body).not.toContain('cloakroom_');
      }
    }
  });

  it('says not ready while it drains, and stays alive', async () => {
    world.app.startDraining();
    expect((await world.app.ops.inject('/readyz')).statusCode).toBe(503);
    expect((await world.app.ops.inject('/readyz')).json()).toEqual({ ready: false, store: 'up', draining: true });
    expect((await world.app.ops.inject('/livez')).statusCode).toBe(200);
  });
});

it('OP5 a connection that an API’s answer goes out on while draining is not kept', async () => {
  const browser = await world.loggedIn();
  expect((await browser.fetch('/api/orders/1')).header('connection')).toBe('keep-alive');
  world.app.startDraining();
  expect((await browser.fetch('/api/orders/1')).all('connection')).toEqual(['close']);
});

describe('metrics', () => {
  it('OP6 has no label that a request, a user or the provider brought', async () => {
    const marker = 'zz9marker';
    const browser = await world.loggedIn(`sub-${marker}`, { name: marker, roles: [marker] });
    await browser.fetch(`/api/orders/${marker}?${marker}=1`, {
      headers: { ...csrf, 'user-agent': marker, [`x-${marker}`]: marker },
    });
    await browser.fetch(`/${marker}`);
    await browser.fetch(`/bff/${marker}`);
    await browser.fetch('/api/orders/1', { method: 'POST' });
    await browser.navigate(`/bff/callback?error=${marker}&state=${marker}&code=${marker}`);
    world.provider.faults.refreshResponse = [{ status: 400, body: { error: marker, error_description: marker } }];
    await browser.fetch('/bff/refresh', { method: 'POST', headers: csrf });
    for (const head of [
      `${marker.toUpperCase()} / HTTP/1.1\r\nHost: localhost:${world.port}`,
      `GET / HTTP/1.1\r\nHost: ${marker}`,
    ])
      await rawRequest(world.port, `${head}\r\n\r\n`);
    expect((await metrics()).toLowerCase()).not.toContain(marker);
    world.allowErrors(); // an unknown error code of the provider is an alarm: the client may be misconfigured
  });

  it('OP6 has only names of the configuration and members of closed sets as labels', async () => {
    const browser = await world.loggedIn();
    await browser.fetch('/api/orders/1');
    await browser.fetch('/nothing');
    await browser.fetch('/bff/refresh', { method: 'POST', headers: csrf });
    await browser.fetch('/bff/logout', { method: 'POST', headers: csrf });
    await browser.fetch('/api/orders/1');
    const found = await labels();
    expect([...found.keys()].sort((a, b) => a.localeCompare(b))).toEqual([
      'api',
      'code',
      'frontend',
      'kind',
      'le',
      'outcome',
      'status',
      'target',
    ]);
    expect(found.get('target')).toEqual(new Set([world.upstream.url]));
    expect(found.get('frontend')).toEqual(new Set(['default', 'none']));
    expect(found.get('api')).toEqual(new Set(['orders', 'endpoint', 'none']));
    for (const status of found.get('status') ?? []) expect(status).toMatch(/^[1-5]xx$/);
    for (const code of found.get('code') ?? []) expect(code).toMatch(/^BFF_[A-Z_]+$/);
    for (const outcome of found.get('outcome') ?? []) expect(outcome).toMatch(/^[a-z-]+$/);
  });

  it.each([
    ['cloakroom_logins_total{frontend="default",outcome="ok"}', 1],
    ['cloakroom_login_starts_total{frontend="default",outcome="started"}', 1],
    ['cloakroom_access_tokens_total{frontend="default",outcome="fresh"}', 1],
    ['cloakroom_upstream_responses_total{frontend="default",api="orders",target="TARGET",outcome="complete"}', 1],
    ['cloakroom_refreshes_total{frontend="default",outcome="refreshed"}', 1],
    ['cloakroom_logouts_total{frontend="default",kind="rp-initiated"}', 1],
    ['cloakroom_revocations_total{frontend="default",outcome="revoked"}', 1],
    ['cloakroom_problems_total{code="BFF_SESSION_REQUIRED"}', 1],
    ['cloakroom_authorization_server_up{frontend="default"}', 1],
  ])('counts %s', async (series, value) => {
    const browser = await world.loggedIn();
    await browser.fetch('/api/orders/1');
    await browser.fetch('/bff/refresh', { method: 'POST', headers: csrf });
    await browser.fetch('/bff/logout', { method: 'POST', headers: csrf });
    await browser.fetch('/api/orders/1');
    const line = `${series.replace('TARGET', world.upstream.url)} ${value}\n`;
    // The revocation is some seconds after the logout.
    await expect.poll(metrics, { timeout: 10_000 }).toContain(line);
    expect(await metrics()).toContain(line); // asking is not counting
  });
});

describe('request ids', () => {
  const send = async (id: string | undefined, path = '/api/orders/1', cookie = '') => {
    const line = id === undefined ? '' : `X-Request-Id: ${id}\r\n`;
    const answer = await rawRequest(
      world.port,
      `GET ${path} HTTP/1.1\r\nHost: localhost:${world.port}\r\nx-csrf: 1\r\nCookie: ${cookie}\r\n${line}\r\n`,
    );
    return { answer, id: headerValues(answer.headers, 'x-request-id') };
  };

  it('takes a plain one over: in the answer, in the log and at the upstream', async () => {
    const browser = await world.loggedIn();
    const { answer, id } = await send(
      'trace-0123456789',
      '/api/orders/1',
      `cloakroom=${browser.cookie('cloakroom')?.value}`,
    );
    expect([answer.status, id]).toEqual([200, ['trace-0123456789']]);
    expect(world.upstream.requests.at(-1)?.header('x-request-id')).toBe('trace-0123456789');
    await expect
      .poll(() => world.log.lines.some(({ reqId, msg }) => reqId === 'trace-0123456789' && msg === 'request'))
      .toBe(true);
  });

  it('makes one of its own for anything else, and for each request another', async () => {
    const ids = new Set<string>();
    const odd = [
      undefined,
      '',
      'short',
      'x'.repeat(65),
      'with space 1234',
      '"><script>x()',
      '10.0.0.1.9999',
      '{"level":50}',
      'ümläut-12345',
      '../../../etc/passwd',
    ];
    for (const value of odd) {
      const { id } = await send(value);
      expect(id).toHaveLength(1);
      expect(id[0], String(value)).toMatch(/^[A-Za-z0-9_-]{12}-[0-9a-z]+$/);
      ids.add(id[0] as string);
    }
    expect(ids.size).toBe(odd.length);
  });

  it('names the request in every refusal, so that its user can quote it', async () => {
    for (const path of ['/api/orders/1', '/nothing', '/bff/nothing', '/api/../x']) {
      const { answer, id } = await send('quote-me-12345', path);
      expect(id, path).toEqual(['quote-me-12345']);
      expect(JSON.parse(answer.body), path).toMatchObject({ requestId: 'quote-me-12345' });
    }
  });
});
