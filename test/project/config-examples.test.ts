import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { formatProblem, loadConfig } from '../../src/config/load.ts';

// Every file in config/ is loaded as an operator would, with the variables that it names.

const root = resolve(import.meta.dirname, '../..');
const files = readdirSync(join(root, 'config')).filter((name) => name.endsWith('.yaml'));
const read = (file: string) => readFileSync(join(root, file), 'utf8');

const plausible: Record<string, string> = {
  CLOAKROOM_KEY: randomBytes(32).toString('base64url'),
  DEMO_KEY: randomBytes(32).toString('base64url'),
  DEMO_LISTEN_HOST: '127.0.0.1',
  REDIS_URL: 'redis://redis:6379',
  ISSUER: 'https://id.example.com',
};

const load = (file: string) => {
  const named = [...read(join('config', file)).matchAll(/\$\{env:([A-Z_]+)\}/g)].map((match) => match[1] as string);
  const env = Object.fromEntries(named.map((name) => [name, plausible[name] ?? `${name.toLowerCase()}-8s7d6f`]));
  const loaded = loadConfig(join(root, 'config', file), env);
  if (!loaded.ok) throw new Error(loaded.problems.map(formatProblem).join('\n'));
  return loaded;
};

/** What only the files for one machine may be warned of. */
const onThisMachine: Record<string, RegExp[]> = {
  'demo.yaml': [/publicUrl is plain http/, /issuer is plain http/, /session.redis is not set/],
  'demo-redis.yaml': [/publicUrl is plain http/, /issuer is plain http/],
  'local.yaml': [/publicUrl is plain http/, /session.redis is not set/],
};

describe.each(files)('config/%s', (file) => {
  it('loads, with no warning but what it says itself', () => {
    const { warnings } = load(file);
    const expected = onThisMachine[file] ?? [];
    expect(warnings).toHaveLength(expected.length);
    for (const [index, warning] of warnings.entries()) expect(warning).toMatch(expected[index] as RegExp);
  });

  it('is listed in the documentation', () => {
    if (onThisMachine[file] === undefined) expect(read('docs/apis.md')).toContain(`](../config/${file})`);
    else expect(`${read('README.md')}${read('docs/configuration.md')}`).toMatch(/config\/(local|demo)/);
  });
});

describe('examples for authorization servers', () => {
  const vendors = files.filter((file) => onThisMachine[file] === undefined);

  it('are there for those that we promise', () => {
    expect(vendors).toEqual([
      'auth0.yaml',
      'cognito.yaml',
      'google.yaml',
      'keycloak.yaml',
      'microsoft-entra-id.yaml',
      'okta.yaml',
      'openid-provider.yaml',
      'zitadel.yaml',
    ]);
  });

  it.each(vendors)('%s says which addresses to register', (file) => {
    const { frontends } = load(file).config;
    const { origin } = frontends[0] as (typeof frontends)[number];
    const comments = read(join('config', file)).replace(/^[^#\n]*$/gm, '');
    expect(comments).toContain(`${origin}/bff/callback`);
    // Some tell nobody of a logout in a way that counts, and their files say so.
    const isSilent = ['cognito.yaml', 'google.yaml', 'microsoft-entra-id.yaml'].includes(file);
    expect(comments).toMatch(isSilent ? /is no back-channel logout/ : /bff\/(back|front)channel-logout/);
  });

  it.each(vendors)('%s gives every API a token of its own', (file) => {
    for (const { apis } of load(file).config.frontends) {
      const targets = apis.map(({ token, resource, audience, scopes }) =>
        JSON.stringify([token, resource, audience, scopes]),
      );
      expect(new Set(targets).size).toBe(targets.length);
    }
  });
});

describe('deploy/keycloak/realm.json', () => {
  // Whether Keycloak takes it is shown by test/world/keycloak.test.ts, which CI does not run.
  const realm = JSON.parse(read('deploy/keycloak/realm.json')) as {
    realm: string;
    clients: { clientId: string; secret?: string; redirectUris?: string[]; attributes?: Record<string, string> }[];
    clientScopes: { name: string }[];
    attributes: Record<string, string>;
    roles: { realm: { name: string }[] };
  };

  it('fits config/keycloak.yaml', () => {
    const frontend = load('keycloak.yaml').config.frontends[0];
    if (frontend === undefined) throw new Error('no frontend');
    const { issuer, clientId, scopes } = frontend.authorizationServer;
    expect(issuer).toMatch(new RegExp(`/realms/${realm.realm}$`));
    const client = realm.clients.find((each) => each.clientId === clientId);
    expect(client?.redirectUris).toEqual([`${frontend.origin}/bff/callback`]);
    expect(client?.attributes).toMatchObject({
      'backchannel.logout.url': `${frontend.origin}/bff/backchannel-logout`,
      'post.logout.redirect.uris': `${frontend.origin}/`,
    });
    const wanted = [...scopes, ...frontend.apis.flatMap((api) => api.scopes)].filter((scope) => scope !== 'openid');
    expect(realm.clientScopes.map(({ name }) => name)).toEqual(expect.arrayContaining(wanted));
    const levels = frontend.apis.flatMap(({ routes }) => routes.flatMap(({ require }) => require.acr ?? []));
    expect(levels).toEqual(['gold']);
    expect(Object.keys(JSON.parse(realm.attributes['acr.loa.map'] as string))).toEqual(expect.arrayContaining(levels));
  });

  it('has no secret that everybody knows', () => {
    expect(realm.clients.filter(({ secret }) => secret !== undefined)).toEqual([]);
  });
});
