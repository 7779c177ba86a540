import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createCertificates, writeCaFile } from '../support/certificates.ts';
import { hang, type Respond, rawBytes, reply, reset } from '../support/echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { openRaw } from '../support/raw-client.ts';
import { until } from '../support/wait.ts';

// W54: connections that are kept, for how long, and what happens when the other end closes one in the very moment that a
// request goes out.

let world: ProxyWorld;
let second: EchoUpstream;
/** Stops in the middle. */
let mortal: EchoUpstream;
let secure: EchoUpstream;
let files: Awaited<ReturnType<typeof writeCaFile>>;

beforeAll(async () => {
  second = await startEchoUpstream();
  mortal = await startEchoUpstream();
  mortal.respond = reply();
  const certificates = await createCertificates();
  files = await writeCaFile(certificates);
  secure = await startEchoUpstream({ tls: certificates.good });
  world = await startProxyWorld((data) => {
    const { upstream } = data.apis.orders;
    data.apis.orders.breaker = { failures: 3, openFor: '100ms' };
    data.apis.short = { path: '/api/short', upstream, timeouts: { headers: '400ms' } };
    data.apis.plain = { path: '/api/plain', upstream };
    data.apis.brief = { path: '/api/brief', upstream, connections: { idle: '300ms' } };
    data.apis.patient = { path: '/api/patient', upstream, connections: { idle: '1m' } };
    data.apis.both = { path: '/api/both', upstream: [upstream, second.url] };
    data.apis.secure = { path: '/api/secure', upstream: secure.url, caFile: files.caFile };
    data.apis.mortal = { path: '/api/mortal', upstream: mortal.url };
  });
});
beforeEach(async () => {
  world.upstream.cut();
  await until(() => world.upstream.connections === 0);
  world.upstream.reset();
  world.upstream.respondOn = 'head';
  second.respond = reply({ body: 'second' });
});
afterAll(async () => {
  await world.stop();
  await Promise.all([second, secure].map((one) => one.stop()));
  await files.remove();
});

const fin: Respond = (_request, socket) => void socket.destroy();
const end: Respond = (_request, socket) => void socket.end();
const csrf = { 'x-csrf': '1' };
const get = (path = '/api/orders/1') => world.alice.fetch(path);
const post = (path = '/api/orders/1') => world.alice.fetch(path, { method: 'POST', body: 'x', headers: csrf });

/** The first request of a connection is answered; what becomes of the next ones is for the test to say. */
function thenOn(next: Respond, upstream = world.upstream): void {
  const used = new Set<number>();
  upstream.respond = (request, socket) => {
    const respond = used.has(request.connection) ? next : reply({ body: { ok: true } });
    used.add(request.connection);
    return respond(request, socket);
  };
}
/** Method and connection of each request; connections are counted from 1. */
const seen = () => {
  const connections = [...new Set(world.upstream.requests.map(({ connection }) => connection))];
  return world.upstream.requests.map(({ method, connection }) => `${method} ${connections.indexOf(connection) + 1}`);
};

/** Attempts to open a connection to an upstream. */
function countConnects() {
  let count = 0;
  const note = () => void count++;
  subscribe('undici:client:beforeConnect', note);
  return {
    get count() {
      return count;
    },
    stop: () => unsubscribe('undici:client:beforeConnect', note),
  };
}

describe('W54 a kept connection that dies before a byte of the answer', () => {
  for (const [name, end] of Object.entries({ closed: fin, reset: reset() })) {
    it.each(['GET', 'HEAD'])(
      `costs no %s when it is ${name}: that goes out once more, with the same headers`,
      async (method) => {
        thenOn(end);
        expect((await get()).status).toBe(200);
        const answer = await world.alice.fetch('/api/orders/2?x=1', { method });
        expect(answer.status).toBe(200);
        expect(seen()).toEqual(['GET 1', `${method} 1`, `${method} 2`]);
        const [, died, again] = world.upstream.requests;
        const but = (name: string) => (line: string) => !line.toLowerCase().startsWith(name);
        expect(again?.requestLine).toBe(died?.requestLine);
        expect(again?.headerLines.filter(but('connection:'))).toEqual(died?.headerLines.filter(but('connection:')));
      },
    );

    it.each(['POST', 'PUT', 'PATCH', 'DELETE'])(
      `costs a %s when it is ${name}: it may have been done`,
      async (method) => {
        thenOn(end);
        expect((await get()).status).toBe(200);
        const answer = await world.alice.fetch('/api/orders/2', { method, headers: csrf });
        expect(answer.json()).toMatchObject({ status: 502, code: 'BFF_UPSTREAM_UNREACHABLE' });
        expect(seen()).toEqual(['GET 1', `${method} 1`]);
      },
    );

    it(`costs a GET with a body when it is ${name}`, async () => {
      thenOn(end);
      expect((await get()).status).toBe(200);
      const answer = await world.alice.fetch('/api/orders/2', { body: 'x', headers: { 'content-length': '1' } });
      expect(answer.status).toBe(502);
      expect(seen()).toEqual(['GET 1', 'GET 1']);
    });

    it(`and then another one that is ${name}: a request is repeated once, whatever happens`, async () => {
      thenOn(end);
      expect((await get()).status).toBe(200);
      world.upstream.respond = end;
      expect((await get()).status).toBe(502);
      expect(seen()).toEqual(['GET 1', 'GET 1', 'GET 2']);
    });
  }

  it.each(Object.entries({ cut: fin, 'closed properly': end }))(
    'costs no GET behind TLS either, %s',
    async (_name, ending) => {
      secure.cut();
      await until(() => secure.connections === 0);
      secure.reset();
      thenOn(ending, secure);
      expect((await get('/api/secure/1')).status).toBe(200);
      expect((await get('/api/secure/1')).status).toBe(200);
      expect((await post('/api/secure/1')).status).toBe(200); // the one of the repeat was for it alone
      expect((await post('/api/secure/1')).status).toBe(502);
      expect(secure.requests).toHaveLength(5);
    },
  );

  it('is not replaced by another kept one, which may be as dead', async () => {
    // Five connections are kept; each of them dies with its next request.
    const waiting: (() => void)[] = [];
    world.upstream.respond = async (request, socket) => {
      await new Promise<void>((resolve) => waiting.push(resolve));
      await reply({ body: 'first' })(request, socket);
    };
    const first = Array.from({ length: 5 }, () => get());
    await until(() => waiting.length === 5);
    for (const go of waiting) go();
    await Promise.all(first);
    const kept = new Set(world.upstream.requests.map(({ connection }) => connection));
    world.upstream.respond = (request, socket) =>
      (kept.has(request.connection) ? fin : reply({ body: 'new' }))(request, socket);
    expect((await get()).text).toBe('new');
    expect(world.upstream.requests.slice(5).map(({ connection }) => kept.has(connection))).toEqual([true, false]);
    for (const answer of await Promise.all(Array.from({ length: 5 }, () => get())))
      expect([answer.status, answer.text]).toEqual([200, 'new']);
  });

  it('leads to another target where there is one: this one may be on its way down', async () => {
    thenOn(fin);
    expect((await get('/api/both/1')).text).toBe('{"ok":true}');
    expect((await get('/api/both/1')).text).toBe('second');
    expect((await get('/api/both/1')).text).toBe('second'); // the first one's turn, and its connection dies
    expect([world.upstream.requests.length, second.requests.length]).toEqual([2, 2]);
  });

  it('is followed by no third attempt when the new connection can’t be opened', async () => {
    expect((await get('/api/mortal/1')).status).toBe(200);
    mortal.respond = () => void mortal.stop(); // nobody listens any more, and every connection is cut, this one too
    const connects = countConnects();
    expect((await get('/api/mortal/1')).status).toBe(502);
    expect(connects.count).toBe(1);
    connects.stop();
  });
});

describe('W54 nothing else is sent twice', () => {
  it.each([
    ['a new connection that is closed', fin],
    ['a new connection that is reset', reset()],
  ])('%s', async (_name, respond) => {
    world.upstream.respond = respond;
    expect((await get()).status).toBe(502);
    expect(seen()).toEqual(['GET 1']);
  });

  it.each([
    ['a byte of an answer, then the end', rawBytes('H'), 502],
    ['a byte of an answer, then a reset', rawBytes('H', { end: 'reset' }), 502],
    ['half a head', rawBytes('HTTP/1.1 200 OK\r\nContent-Le'), 502],
    ['an informational answer, then the end', rawBytes('HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'), 502],
    ['an informational answer, then a reset', rawBytes('HTTP/1.1 102 Processing\r\n\r\n', { end: 'reset' }), 502],
    ['what is no HTTP', rawBytes('SSH-2.0-x\r\n'), 502],
    ['an error', reply({ status: 503 }), 503],
  ])('%s, on a kept connection', async (_name, respond, status) => {
    thenOn(respond);
    expect((await get()).status).toBe(200);
    expect((await get()).status).toBe(status);
    expect(seen()).toEqual(['GET 1', 'GET 1']);
  });

  it('half a body, on a kept connection', async () => {
    thenOn(rawBytes('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf', { end: 'keep' }));
    expect((await get('/api/short/1')).status).toBe(200);
    const streamed = await world.alice.open('/api/short/1');
    await streamed.readUntil((text) => text === 'half');
    world.upstream.cut();
    expect(await streamed.ended).toBe('aborted');
    expect(seen()).toEqual(['GET 1', 'GET 1']);
  });

  it('an answer that is late, on a kept connection', async () => {
    thenOn(hang());
    expect((await get('/api/short/1')).status).toBe(200);
    expect((await get('/api/short/1')).status).toBe(504);
    expect(seen()).toEqual(['GET 1', 'GET 1']);
  });

  it('what a browser leaves, on a kept connection', async () => {
    thenOn(hang());
    expect((await get()).status).toBe(200);
    const browser = await openRaw(world.port);
    await browser.write(world.head('/api/orders/1'));
    await until(() => world.upstream.active === 1);
    browser.close();
    await until(() => world.upstream.connections === 0);
    world.upstream.respond = reply();
    expect((await get()).status).toBe(200);
    expect(seen()).toEqual(['GET 1', 'GET 1', 'GET 2']);
  });
});

describe('W54 a token that the API refuses, and a kept connection that dies', () => {
  const refused = reply({ status: 401, headers: [['WWW-Authenticate', 'Bearer error="invalid_token"']] });

  it('are not two reasons for two repeats: the 401 after the repeat is the answer', async () => {
    let count = 0;
    world.upstream.respond = (request, socket) => [reply(), fin, refused][count++]?.(request, socket);
    expect((await get()).status).toBe(200);
    expect((await get()).status).toBe(401);
    expect(seen()).toEqual(['GET 1', 'GET 1', 'GET 2']);
  });

  it('nor the other way round: the repeat with another token is the last', async () => {
    const bob = await world.loggedIn('bob'); // a token is replaced once in a while
    let count = 0;
    world.upstream.respond = (request, socket) => [reply(), refused, fin][count++]?.(request, socket);
    expect((await bob.fetch('/api/orders/1')).status).toBe(200);
    expect((await bob.fetch('/api/orders/1')).status).toBe(502);
    expect(seen()).toEqual(['GET 1', 'GET 1', 'GET 1']);
  });
});

describe('W54 the breaker', () => {
  const isOpen = async () => {
    const { body } = await world.app.ops.inject('/metrics');
    return body.includes(
      `cloakroom_upstream_circuit_open{frontend="default",api="orders",target="${world.upstream.url}"} 1`,
    );
  };

  it('does not count kept connections that die: they tell of their own end, not of the target’s', async () => {
    thenOn(fin);
    for (let count = 0; count < 10; count++) {
      expect((await post()).status).toBe(200);
      expect((await post()).status).toBe(502);
    }
    expect(await isOpen()).toBe(false);
  });

  it('opens for a target that dies with every request, GET or POST', async () => {
    for (const send of [get, post]) {
      await until(async () => {
        world.upstream.respond = reply();
        return (await send()).status === 200;
      });
      world.upstream.respond = fin;
      await until(async () => (await send()).status === 503, { message: 'the breaker to open' });
      expect(await isOpen()).toBe(true);
    }
  });

  it('is told nothing, but the metrics are', async () => {
    const count = async (outcome: string) => {
      const { body } = await world.app.ops.inject('/metrics');
      const labels = `frontend="default",api="short",target="${world.upstream.url}",outcome="${outcome}"`;
      const line = body.split('\n').find((each) => each.includes(`upstream_responses_total{${labels}}`));
      return Number(line?.split(' ').at(-1) ?? 0);
    };
    const counts = () => Promise.all(['stale-connection', 'complete', 'failed'].map(count));
    const before = await counts();
    thenOn(fin);
    await get('/api/short/1');
    await get('/api/short/1');
    const after = await counts();
    expect(after.map((value, index) => value - (before[index] ?? 0))).toEqual([1, 2, 0]);
  });
});

describe('W54 an idle connection', () => {
  /** Milliseconds from an answer to the end of its connection, by us. */
  async function keptFor(path: string, headers: [string, string][] = []): Promise<number> {
    world.upstream.respond = reply({ headers });
    expect((await get(path)).status).toBe(200);
    const startedAt = performance.now();
    await until(() => world.upstream.connections === 0, { message: 'the connection to be closed' });
    return performance.now() - startedAt;
  }

  it('is closed before common servers would: gunicorn does after 2 s, uvicorn and Node after 5 s', async () => {
    const keptMs = await keptFor('/api/plain/1');
    expect(keptMs).toBeGreaterThan(1000);
    expect(keptMs).toBeLessThan(2000);
  });

  it('is kept as long as it is set to', async () => {
    expect(await keptFor('/api/brief/1')).toBeLessThan(1000);
  });

  it.each([
    ['less than it says itself', '/api/patient/1', 'timeout=2', 500, 1800],
    ['no longer than it is set to, whatever it says', '/api/brief/1', 'timeout=60', 200, 1000],
    ['not at all where it says a second or nothing', '/api/patient/1', 'timeout=1', 0, 300],
  ])('is kept %s', async (_name, path, hint, least, most) => {
    const keptMs = await keptFor(path, [['Keep-Alive', hint]]);
    expect(keptMs).toBeGreaterThanOrEqual(least);
    expect(keptMs).toBeLessThan(most);
  });
});
