import { once } from 'node:events';
import { connect as connectTls, createServer as createTlsServer, type TLSSocket, type TlsOptions } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Certificates, createCertificates, writeCaFile } from '../support/certificates.ts';
import { reply } from '../support/echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { until } from '../support/wait.ts';
import { startWorld } from '../support/world.ts';

// T121: a peer that can't show who it is gets nothing: no token, no secret, no request line.

let certificates: Certificates;
let files: Awaited<ReturnType<typeof writeCaFile>>;
beforeAll(async () => {
  certificates = await createCertificates();
  files = await writeCaFile(certificates);
});
afterAll(() => files.remove());

const faults: [name: string, tls: () => TlsOptions, trustsCa: boolean][] = [
  ['a self-signed certificate', () => certificates.selfSigned, true],
  ['an expired certificate', () => certificates.expired, true],
  ['a certificate for another name', () => certificates.wrongName, true],
  ['a certificate of an authority that is not trusted', () => certificates.good, false],
  [
    'TLS 1.1 only',
    () => ({ ...certificates.good, minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL@SECLEVEL=0' }),
    true,
  ],
];

describe('an https upstream', () => {
  let world: ProxyWorld;
  const upstreams: EchoUpstream[] = [];
  let good: EchoUpstream;

  beforeAll(async () => {
    good = await startEchoUpstream({ tls: certificates.good });
    good.respond = reply({ body: 'good' });
    for (const [, tls] of faults) upstreams.push(await startEchoUpstream({ tls: tls() }));
    world = await startProxyWorld((data) => {
      data.apis.good = { path: '/api/good', upstream: good.url, caFile: files.caFile };
      faults.forEach(([, , trustsCa], index) => {
        data.apis[`bad-${index}`] = {
          path: `/api/bad-${index}`,
          upstream: upstreams[index]?.url,
          ...(trustsCa ? { caFile: files.caFile } : {}),
        };
      });
    });
  });
  afterAll(async () => {
    await world.stop();
    await Promise.all([good, ...upstreams].map((one) => one.stop()));
  });

  it('T121 with a good certificate gets the request and its token', async () => {
    expect((await world.alice.fetch('/api/good/1')).text).toBe('good');
    expect(good.requests[0]?.header('authorization')).toMatch(/^Bearer /);
  });

  faults.forEach(([name], index) => {
    it(`T121 with ${name} gets nothing, and the browser 502`, async () => {
      const upstream = upstreams[index] as EchoUpstream;
      for (const method of ['GET', 'POST']) {
        const answer = await world.alice.fetch(`/api/bad-${index}/1`, {
          method,
          headers: { 'x-csrf': '1' },
          ...(method === 'POST' ? { body: 'secret body' } : {}),
        });
        expect(answer.status).toBe(502);
        expect(answer.json()).toMatchObject({ code: 'BFF_UPSTREAM_UNREACHABLE' });
        expect(answer.text).not.toMatch(/certificate|altname|self.signed|localhost/i);
      }
      await until(() => upstream.accepted + upstream.failedHandshakes > 0, {
        message: 'it to be asked, and not believed',
      });
      expect(upstream.requests).toEqual([]);
      expect(upstream.malformed).toEqual([]);
    });
  });

  it('T121 with TLS 1.1 would serve a client that is less strict', async () => {
    const port = upstreams.at(-1)?.port ?? 0;
    const socket = connectTls({
      port,
      host: '127.0.0.1',
      ca: certificates.ca,
      servername: 'localhost',
      minVersion: 'TLSv1',
      ciphers: 'ALL@SECLEVEL=0',
    });
    await once(socket, 'secureConnect');
    expect(socket.getProtocol()).toBe('TLSv1.1');
    socket.destroy();
  });

  it('T121 whose certificate was refused leaves its reason in the log', () => {
    const causes = world.log.warnings().map((line) => JSON.stringify(line));
    for (const code of ['DEPTH_ZERO_SELF_SIGNED_CERT', 'CERT_HAS_EXPIRED', 'ERR_TLS_CERT_ALTNAME_INVALID'])
      expect(causes.filter((line) => line.includes(code)).length, code).toBeGreaterThan(0);
  });
});

/** A TLS peer that keeps every byte it is told. */
async function listen(tls: TlsOptions) {
  let heard = '';
  let asked = 0;
  const open = new Set<TLSSocket>();
  const server = createTlsServer(tls, (socket) => {
    open.add(socket);
    socket
      .on('error', () => undefined)
      .on('data', (chunk) => {
        heard += chunk.toString('latin1');
      });
  });
  server.on('connection', () => asked++).on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  return {
    port: address.port,
    heard: () => heard,
    asked: () => asked,
    stop: () =>
      new Promise((resolve) => {
        server.close(resolve);
        for (const socket of open) socket.destroy();
      }),
  };
}

describe.each(faults)('a peer with %s', (_name, tls, trustsCa) => {
  const trust = () => (trustsCa ? { caFile: files.caFile } : {});

  it('T121 is not taken for the authorization server', async () => {
    const peer = await listen(tls());
    const world = await startWorld({
      store: 'memory',
      config(data) {
        Object.assign(data.authorizationServer, { issuer: `https://localhost:${peer.port}`, ...trust() });
      },
    });
    try {
      const page = await world.browser().login('/');
      expect(page.status).toBe(503);
      expect(page.text).not.toMatch(/certificate|localhost:/i);
      expect(peer.asked()).toBeGreaterThan(0);
      expect(peer.heard()).toBe('');
    } finally {
      await world.stop();
      await peer.stop();
    }
  });

  it('T121 is not taken for Redis', async () => {
    const peer = await listen(tls());
    const world = await startWorld({
      store: 'memory',
      config(data) {
        data.session.redis = { url: `rediss://user:password-of-redis@localhost:${peer.port}`, ...trust() };
      },
    });
    try {
      const cookie = `cloakroom=${'x'.repeat(43)}.${'y'.repeat(43)}`;
      const answer = await world.browser().fetch('/api/orders/1', { headers: { cookie } });
      expect(answer.status).toBe(401); // a cookie that we did not sign costs no look-up
      expect(peer.asked()).toBeGreaterThan(0);
      expect(peer.heard()).toBe('');
      expect(world.log.text()).not.toContain('password-of-redis');
    } finally {
      await world.stop();
      await peer.stop();
    }
  });
});
