import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { type Finding, formatFinding } from '../../src/check/finding.ts';
import { type Certificates, createCertificates, writeCaFile } from '../support/certificates.ts';
import { check, configOf, faultsOf, linesOf, redirectUri, startEvil } from '../support/check.ts';
import type { EvilProvider, EvilProviderOptions } from '../support/evil-provider.ts';
import { startForwardProxy } from '../support/forward-proxy.ts';
import { freePort } from '../support/redis.ts';
import type { ConfigData } from '../support/world.ts';

// `cloakroom check --connect` asks the authorization server: every mistake is named with its cure before anybody logs in.

let certificates: Certificates;
let files: Awaited<ReturnType<typeof writeCaFile>>;
beforeAll(async () => {
  certificates = await createCertificates();
  files = await writeCaFile(certificates);
});
afterAll(() => files.remove());

/** What is said of a provider after a change of its answers or of the configuration. */
async function checkProvider(
  options: EvilProviderOptions,
  change: (data: ConfigData, provider: EvilProvider) => void = () => undefined,
): Promise<Finding[]> {
  const provider = await startEvil(options);
  const data = configOf(provider);
  change(data, provider);
  return check(data);
}

describe('an authorization server', () => {
  it.each([true, false])(
    'that is as it should be has nothing but ok (PAR: %s), and its tokens are not asked for',
    async (par) => {
      const provider = await startEvil({ par, redirectUris: [redirectUri] });
      const findings = await check(configOf(provider));
      expect(faultsOf(findings)).toEqual([]);
      expect(linesOf(findings, 'ok').join('\n')).toMatch(
        /is reached\n.*with PKCE S256\n.*signing keys can be read\n.*redirect URI https:\/\/app\.example\.com\/bff\/callback and its scopes are taken\n.*knows the client and its credentials\n.*clock is ours$/,
      );
      expect(provider.issuedSecrets('access_token', 'refresh_token', 'id_token')).toEqual([]);
      expect(provider.requestsTo('par').length).toBe(par ? 1 : 0);
    },
  );

  const oneFault: [
    what: string,
    options: EvilProviderOptions,
    change: (data: ConfigData, provider: EvilProvider) => void,
    fault: RegExp,
  ][] = [
    [
      'an issuer with a slash too many in the configuration',
      {},
      ({ authorizationServer }) => {
        authorizationServer.issuer += '/';
      },
      /^FAIL {2}authorizationServer\.issuer: .*\(a slash less\) → .*write issuer exactly/,
    ],
    [
      'an issuer with a slash too few in the configuration',
      {},
      (_data, provider) => {
        provider.faults.discovery = { issuer: `${provider.issuer}/` };
      },
      /^FAIL {2}authorizationServer\.issuer: .*\(a slash more\) → .*write issuer exactly/,
    ],
    [
      'the issuer of another tenant',
      {},
      (_data, provider) => {
        provider.faults.discovery = { issuer: `${provider.issuer}/tenant-b` };
      },
      /^FAIL {2}authorizationServer\.issuer: .*got http:\/\/127\.0\.0\.1:\d+\/tenant-b → /,
    ],
    [
      'an unknown realm',
      {},
      ({ authorizationServer }) => {
        authorizationServer.issuer += '/realms/x';
      },
      /^FAIL {2}authorizationServer\.issuer: .*404.* → there is no metadata where issuer leads to/,
    ],
    [
      'metadata without PKCE',
      {},
      (_data, provider) => {
        provider.faults.discovery = { mutate: (json) => ({ ...json, code_challenge_methods_supported: undefined }) };
      },
      /^FAIL {2}authorizationServer\.issuer: .*PKCE S256: set assumePkceS256/,
    ],
    [
      'a page instead of metadata',
      {},
      (_data, provider) => {
        provider.faults.discovery = { body: '<h1>hello', headers: { 'content-type': 'text/html' } };
      },
      /^FAIL {2}authorizationServer\.issuer: .*text\/html/,
    ],
    [
      'a key set that is a page',
      {},
      (_data, provider) => {
        provider.faults.jwks = { body: '<h1>' };
      },
      /^FAIL {2}authorizationServer\.issuer: its signing keys can’t be read/,
    ],
    [
      'a wrong secret',
      {},
      ({ authorizationServer }) => {
        authorizationServer.clientSecret = 'wrong-secret-8s7d6f';
      },
      /^FAIL {2}authorizationServer\.clientAuthentication: the token endpoint refuses the client: .*invalid_client.* → .*compare clientId, clientSecret/,
    ],
    [
      'a wrong secret, with PAR',
      { par: true },
      ({ authorizationServer }) => {
        authorizationServer.clientSecret = 'wrong-secret-8s7d6f';
      },
      /^FAIL {2}authorizationServer\.clientAuthentication: a login .* is refused: .*invalid_client.* → .*compare clientId, clientSecret/,
    ],
    [
      'another audience of assertions',
      { assertionAudience: 'called' },
      ({ authorizationServer }) => {
        authorizationServer.clientAuthentication = 'client_secret_jwt';
      },
      /^FAIL {2}authorizationServer\.clientAuthentication: .*; some servers want another clientAssertionAudience$/,
    ],
    [
      'a client that may redeem no codes',
      {},
      (_data, provider) => {
        provider.faults.tokenResponse = {
          body: { error: 'unauthorized_client', error_description: 'Client not enabled' },
        };
      },
      /^FAIL {2}authorizationServer\.clientId: .*unauthorized_client, “Client not enabled” → .*enable the client/,
    ],
    [
      'a client that must use DPoP',
      {},
      (_data, provider) => {
        provider.faults.tokenResponse = { body: { error: 'invalid_dpop_proof' } };
      },
      /^FAIL {2}authorizationServer\.clientId: .*→ .*sender-constrained tokens/,
    ],
    [
      'an answer that does not say whether the client is known',
      {},
      (_data, provider) => {
        provider.faults.tokenResponse = { body: { error: 'invalid_request', error_description: 'Malformed code' } };
      },
      /^warn {2}authorizationServer\.issuer: .*does not say.*“Malformed code” → log in once by hand/,
    ],
    [
      'a token endpoint that is broken',
      {},
      (_data, provider) => {
        provider.faults.tokenResponse = { status: 500 };
      },
      /^FAIL {2}authorizationServer\.issuer: .*status 500.* → try again later/,
    ],
    [
      'tokens for anybody',
      {},
      (_data, provider) => {
        provider.faults.tokenResponse = { body: '<html>', status: 200, headers: { 'content-type': 'text/html' } };
      },
      /^FAIL {2}authorizationServer\.issuer: the token endpoint refuses the client: .*status 200.* → look whether the right server/,
    ],
    [
      'a clock that is ahead',
      { now: () => Date.now() },
      (_data, provider) => {
        const date = new Date(Date.now() + 90_000).toUTCString();
        provider.faults.discovery = { headers: { date } };
        provider.faults.jwks = { headers: { date } };
        provider.faults.authorize = { headers: { date } };
        provider.faults.tokenResponse = { headers: { date }, body: { error: 'invalid_grant' } };
      },
      /^warn {2}authorizationServer\.clockTolerance: its clock is (89|9[01]) s ahead of ours: .* → set both clocks by NTP/,
    ],
    [
      'a clock that is behind',
      {},
      (_data, provider) => {
        const date = new Date(Date.now() - 3_600_000).toUTCString();
        provider.faults.tokenResponse = { headers: { date }, body: { error: 'invalid_grant' } };
      },
      /^warn {2}authorizationServer\.clockTolerance: its clock is (3599|3600|3601|3598) s behind ours/,
    ],
  ];
  it.each(oneFault)('names %s', async (_what, options, change, fault) => {
    const faults = faultsOf(await checkProvider({ redirectUris: [redirectUri], ...options }, change));
    expect(faults.length, faults.join('\n')).toBe(1);
    expect(faults[0]).toMatch(fault);
  });

  it('shows nothing of what the server gives back', async () => {
    const provider = await startEvil({ par: true });
    const echoed = `You sent ${provider.clientSecret}\u001b[31m\nFAIL  everything`;
    provider.faults.par = { body: { error: 'invalid_request', error_description: echoed } };
    provider.faults.tokenResponse = { body: { error: 'invalid_client', error_description: echoed }, status: 401 };
    const text = (await check(configOf(provider))).map(formatFinding).join('\n');
    expect(text).not.toContain('\u001b');
    expect(text).not.toMatch(/^FAIL {2}everything/m);
  });

  it('is reached by metadataUrl, and through the forward proxy of the environment', async () => {
    const proxy = await startForwardProxy({ credentials: 'user:secret-of-the-proxy' });
    onTestFinished(() => proxy.stop());
    const provider = await startEvil({ tls: certificates.good, host: 'id.behind.example', metadataPath: '/there?p=x' });
    const data = configOf(provider);
    Object.assign(data.authorizationServer, {
      caFile: files.caFile,
      metadataUrl: `${new URL(provider.issuer).origin}/there?p=x`,
    });
    const env = { HTTPS_PROXY: proxy.url.replace('://', '://user:secret-of-the-proxy@') };
    const findings = await check(data, env);
    expect(faultsOf(findings)).toEqual([
      expect.stringMatching(/^warn {2}.*its certificate is good until .* → have it renewed/),
    ]);
    expect(faultsOf(findings)[0]).toContain(`through the forward proxy 127.0.0.1:${proxy.port}`);
    const wrong = faultsOf(await check(data, { HTTPS_PROXY: proxy.url }));
    expect(wrong).toEqual([
      expect.stringMatching(
        /^FAIL {2}authorizationServer\.metadataUrl: .*the forward proxy wants credentials.*→ put user and password/,
      ),
    ]);
  });

  it.each([
    ['wrongName', /its certificate is for another name .* → use a host name/],
    ['selfSigned', /an authority that is not trusted here .* → set caFile/],
    ['expired', /its certificate is not valid now .* → renew it there/],
  ] as const)('names a certificate that is %s', async (kind, fault) => {
    const findings = await checkProvider({ tls: certificates[kind] }, ({ authorizationServer }) =>
      Object.assign(authorizationServer, { caFile: files.caFile }),
    );
    expect(findings.map(formatFinding)).toEqual([expect.stringMatching(fault)]);
  });

  it.each([
    ['a port where nobody listens', async () => `http://127.0.0.1:${await freePort()}`, /nothing listens there/],
    [
      'a name that nobody knows',
      async () => 'https://id.does-not-exist.invalid',
      /name is not known|no answer in time/,
    ],
    [
      'plain http where TLS is meant',
      async () => `https://localhost:${(await startEvil()).port}`,
      /does not speak TLS/,
    ],
  ])('names %s', async (_what, issuer, fault) => {
    const findings = await check(
      configOf({ issuer: await issuer(), clientId: 'x', clientSecret: 'a-real-one-8s7d6f' }),
    );
    expect(findings.map(formatFinding)).toEqual([expect.stringMatching(fault)]);
    expect(findings[0]).toMatchObject({ status: 'FAIL', key: 'authorizationServer.issuer' });
  });
});
