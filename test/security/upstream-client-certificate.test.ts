import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TlsOptions } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Certificates, createCertificates, type KeyAndCertificate } from '../support/certificates.ts';
import { reply } from '../support/echo-upstream/answers.ts';
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { until } from '../support/wait.ts';
import { startWorld } from '../support/world.ts';

// Mutual TLS with an upstream (PX23, T121): we show a certificate to whom we believe, and nothing to others.

let certificates: Certificates;
let folder: string;
let world: ProxyWorld;
let strict: EchoUpstream;
let wrongName: EchoUpstream;

const file = (name: string) => join(folder, name);
const ours = (name: string) => ({ certFile: file(`${name}.crt`), keyFile: file(`${name}.key`) });

beforeAll(async () => {
  certificates = await createCertificates();
  folder = await mkdtemp(join(tmpdir(), 'cloakroom-mtls-'));
  const save = async (name: string, { cert, key }: KeyAndCertificate) => {
    await writeFile(file(`${name}.crt`), cert);
    await writeFile(file(`${name}.key`), key);
  };
  await writeFile(file('ca.pem'), certificates.ca);
  await save('client', certificates.client);
  await save('foreign', certificates.selfSigned);
  await save('expired', certificates.expired);
  await writeFile(file('empty.pem'), 'no certificate\n');

  const wantsOurs: TlsOptions = { requestCert: true, rejectUnauthorized: true, ca: certificates.ca };
  strict = await startEchoUpstream({ tls: { ...certificates.good, ...wantsOurs } });
  wrongName = await startEchoUpstream({ tls: { ...certificates.wrongName, ...wantsOurs } });
  for (const one of [strict, wrongName]) one.respond = reply({ body: 'welcome' });
  const [caFile, health] = [file('ca.pem'), { path: '/healthz', interval: '50ms' }];
  world = await startProxyWorld((data) => {
    const to = (upstream: string, rest: object) => ({ upstream, caFile, ...rest });
    const apis = {
      good: to(strict.url, { clientCertificate: ours('client'), health }),
      none: to(strict.url, {}),
      foreign: to(strict.url, { clientCertificate: ours('foreign') }),
      expired: to(strict.url, { clientCertificate: ours('expired') }),
      'wrong-name': to(wrongName.url, { clientCertificate: ours('client') }),
      'wrong-ca': { upstream: strict.url, clientCertificate: ours('client') },
    };
    for (const [name, api] of Object.entries(apis)) data.apis[name] = { path: `/api/${name}`, ...api };
  });
});
afterAll(async () => {
  await world.stop();
  await Promise.all([strict, wrongName].map((one) => one.stop()));
  await rm(folder, { recursive: true, force: true });
});

describe('an upstream that wants a certificate', () => {
  it('T121 gets ours, then the request and its token; its health check shows it too', async () => {
    strict.requests.length = 0;
    expect((await world.alice.fetch('/api/good/1')).text).toBe('welcome');
    const [request] = strict.requests.filter(({ target }) => target === '/1');
    expect(request?.header('authorization')).toMatch(/^Bearer /);
    await until(() => strict.requests.some(({ target }) => target === '/healthz'));
  });

  it.each([
    ['none', 'without a certificate'],
    ['foreign', 'with a certificate of another authority'],
    ['expired', 'with an expired certificate'],
  ])('T121 refuses us %s: %s', async (name) => {
    strict.requests.length = 0;
    for (const method of ['GET', 'POST']) {
      const answer = await world.alice.fetch(`/api/${name}/1`, { method, headers: { 'x-csrf': '1' } });
      expect(answer.status).toBe(502);
      expect(answer.json()).toMatchObject({ code: 'BFF_UPSTREAM_UNREACHABLE' });
      expect(answer.text).not.toMatch(/certificate|alert|localhost/i);
    }
    expect(strict.requests.filter(({ target }) => target === '/1')).toEqual([]);
  });

  it.each(['wrong-name', 'wrong-ca'])('T121 with the %s gets neither our certificate nor the request', async (name) => {
    const upstream = name === 'wrong-name' ? wrongName : strict;
    upstream.requests.length = 0;
    expect((await world.alice.fetch(`/api/${name}/1`)).status).toBe(502);
    expect(upstream.requests.filter(({ target }) => target === '/1')).toEqual([]);
  });

  it('is warned about at the start when our certificate is over', () => {
    const warned = world.log.warnings().map(({ setting }) => String(setting));
    expect(
      warned.filter((text) => /^apis\.expired\.clientCertificate\.certFile: .*expired on .* 2020/.test(text)),
    ).toHaveLength(1);
  });
});

describe('files of certificates', () => {
  const start = (api: object) =>
    startWorld({
      store: 'memory',
      config: (data) => Object.assign(data.apis.orders, { upstream: 'https://localhost:1', ...api }),
    }).then(
      () => 'started',
      (error: unknown) => (error as Error).message,
    );

  it.each([
    [
      'a CA that is not there',
      () => ({ caFile: '/nowhere/ca.pem' }),
      /^apis\.orders\.caFile: can't read the file named here \(ENOENT\)/,
    ],
    [
      'a CA file without a certificate',
      () => ({ caFile: file('empty.pem') }),
      /^apis\.orders\.caFile: .*no usable PEM/,
    ],
    [
      'a certificate that is not there',
      () => ({ clientCertificate: { ...ours('client'), certFile: '/nowhere/c.pem' } }),
      /^apis\.orders\.clientCertificate\.certFile: can't read/,
    ],
    [
      'a key file that has the certificate',
      () => ({ clientCertificate: { certFile: file('client.crt'), keyFile: file('client.crt') } }),
      /^apis\.orders\.clientCertificate\.keyFile: .*private key without a passphrase/,
    ],
    [
      'a key of another certificate',
      () => ({ clientCertificate: { certFile: file('client.crt'), keyFile: file('foreign.key') } }),
      /^apis\.orders\.clientCertificate\.keyFile: .* is not the key of the first certificate in certFile/,
    ],
  ])('stop the start and name the setting: %s', async (_name, api, message) => {
    const text = await start(api());
    expect(text).toMatch(message);
    expect(text).not.toMatch(/BEGIN|PRIVATE KEY-----/);
  });
});
