import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { formatProblem, parseConfig } from '../../src/config/load.ts';
import { configSchema } from '../../src/config/schema/schema.ts';
import { isName } from '../../src/crypto/shown.ts';
import { startCloakroom, writeConfig } from '../support/process.ts';

// A line that slipped, a colon too many, a variable where its value was pasted: whatever stands where it should not may
// be a secret, and the message about it ends in a build log.

type Data = Record<string, unknown>;

const configuration = (): Data => ({
  publicUrl: 'https://app.example.com',
  cookie: { name: '__Host-shop' },
  trustedProxies: ['10.0.0.1'],
  listen: { host: '127.0.0.1', port: 0 },
  ops: { host: '127.0.0.1', port: 0, adminKey: randomBytes(32).toString('hex') },
  forwardAuth: { key: randomBytes(32).toString('base64url'), hosts: ['cloakroom:8080'] },
  authorizationServer: {
    issuer: 'https://id.example.com',
    clientId: 'shop',
    clientSecret: 'k3Jx-9aLq_0pZr',
    scopes: ['openid'],
  },
  bearerIssuers: {
    mobile: {
      issuer: 'https://id.example.com',
      audiences: ['https://api.example.com'],
      introspection: { clientId: 'api', clientSecret: 'r7Jx-9aLq_0pZr', cache: '30s' },
    },
  },
  session: {
    keys: [randomBytes(32).toString('base64url')],
    redis: { url: 'redis://redis:6379', password: 'p9Jx-9aLq_0pZr', commandTimeout: '1s' },
    idleTimeout: '30m',
  },
  apis: {
    orders: {
      path: '/api/orders',
      upstream: 'https://orders:8443',
      accept: ['session', 'bearer'],
      forwardHeaders: ['x-shop'],
      limits: { requestBody: '10MiB' },
      caFile: '/etc/ca.pem',
      require: { claims: { 'realm_access.roles': 'admin' } },
      routes: [{ path: '/refunds', require: { roles: ['admin'] } }],
    },
    catalog: { path: '/api/catalog', upstream: ['http://catalog:8080'], token: 'none' },
  },
});

/** As secrets look: of a generator, of an authorization server, and as people make them up. */
const secret = fc.oneof(
  fc.uint8Array({ minLength: 16, maxLength: 32 }).map((bytes) => Buffer.from(bytes).toString('hex')),
  fc
    .uint8Array({ minLength: 15, maxLength: 32 })
    .map((bytes) => `q7${Buffer.from(bytes).toString('base64url').replace(/-/g, '_')}`),
  fc.constantFrom('s3cr3t-value', 'k3Jx-9aLq_0pZr', 'hunter2hunter2', 'canary-client-secret-4711', 'Tr0ub4dor.3'),
);

type Change = (holder: Record<PropertyKey, unknown>, key: string, secret: string) => unknown;

const inData: Record<string, Change> = {
  value: (holder, key, text) => Object.assign(holder, { [key]: text }),
  'value in a list': (holder, key, text) => Object.assign(holder, { [key]: [text] }),
  'value in a map': (holder, key, text) => Object.assign(holder, { [key]: { value: text } }),
  key: (holder, key, text) => Object.assign(holder, { [key]: { [text]: 'x' } }),
  'key beside': (holder, _key, text) => Object.assign(holder, { [text]: '' }),
  'key instead': (holder, key, text) => {
    holder[text] = holder[key];
    delete holder[key];
  },
  'key with a value': (holder, key, text) => Object.assign(holder, { [`${key} ${text}`]: 'x' }),
  'name of a variable': (holder, key, text) => Object.assign(holder, { [key]: `\${env:${text}}` }),
  'name of a file': (holder, key, text) => Object.assign(holder, { [key]: `\${file:${text}}` }),
  'file in a folder': (holder, key, text) => Object.assign(holder, { [key]: `\${file:/run/secrets/${text}}` }),
  duration: (holder, key, text) => Object.assign(holder, { [key]: `5${text}s` }),
  'URL with userinfo': (holder, key, text) => Object.assign(holder, { [key]: `https://user:${text}@host.example` }),
  'URL of Redis': (holder, key, text) => Object.assign(holder, { [key]: `redis://user:${text}@redis:x` }),
  path: (holder, key, text) => Object.assign(holder, { [key]: `/${text}` }),
  header: (holder, key, text) => Object.assign(holder, { [key]: [`x-forwarded-${text}`.toLowerCase()] }),
};

const inText: Record<string, (line: string, secret: string) => string> = {
  tag: (line, text) => line.replace(/: /, `: !${text} `),
  'tag of a handle': (line, text) => line.replace(/: /, `: !h!${text} `),
  anchor: (line, text) => line.replace(/: /, `: &${text} *${text} `),
  alias: (line, text) => line.replace(/: .*/, `: *${text}`),
  directive: (line, text) => `%${text} ${text}\n---\n${line}`,
  'directive inside': (line, text) => `${line}\n%${text}`,
  'open quote': (line, text) => line.replace(/: .*/, `: "${text}`),
  'escape in quotes': (line, text) => line.replace(/: .*/, `: "\\q${text}"`),
  'open bracket': (line, text) => line.replace(/: .*/, `: [${text}`),
  'colon too many': (line, text) => line.replace(/: .*/, `: ${text}: ${text}`),
  'comment after rubbish': (line, text) => line.replace(/: .*/, `: } # ${text}`),
  'line of its own': (line, text) => `${line}\n${text}`,
  'key of several lines': (line, text) => `${line}\n  ${text}\n   ${text}: x`,
  'key that is a map': (line, text) => `${line}\n? { ${text}: ${text} }\n: ${text}`,
  'key that is a list': (line, text) => `? [ ${text} ]\n: x\n${line}`,
  'key twice': (line, text) => `"${text}": 1\n"${text}": 2\n${line}`,
  'document of its own': (line, text) => `${line}\n---\n${text}`,
  'block in brackets': (line, text) => line.replace(/: .*/, `: { - ${text} }`),
  tab: (line, text) => `${line}\n\t${text}: ${text}`,
  character: (line, text) => line.replace(/: .*/, `: @${text}`),
};

/** Every map of the configuration with each of its keys. */
function placesOf(value: unknown): [Record<PropertyKey, unknown>, string][] {
  if (typeof value !== 'object' || value === null) return [];
  const holder = value as Record<PropertyKey, unknown>;
  return Object.keys(holder).flatMap((key) => [[holder, key] as [typeof holder, string], ...placesOf(holder[key])]);
}

const number = fc.nat({ max: 10_000 });
const texts = fc.oneof(
  fc.record({ kind: fc.constantFrom(...Object.keys(inData)), at: number, text: secret }).map(({ kind, at, text }) => {
    const data = configuration();
    const places = placesOf(data);
    const [holder, key] = places[at % places.length] as (typeof places)[number];
    inData[kind]?.(holder, key, text);
    return { kind: `${kind} at ${key}`, text, yaml: stringify(data) };
  }),
  fc.record({ kind: fc.constantFrom(...Object.keys(inText)), at: number, text: secret }).map(({ kind, at, text }) => {
    const lines = stringify(configuration()).split('\n').slice(0, -1);
    const line = at % lines.length;
    lines[line] = inText[kind]?.(lines[line] as string, text) ?? '';
    return { kind, text, yaml: lines.join('\n') };
  }),
);

const warned: string[] = [];
const onWarning = (warning: Error) => warned.push(warning.message);
beforeAll(() => process.on('warning', onWarning));
afterAll(() => process.off('warning', onWarning));

describe('W15 a secret in the wrong place of the configuration', () => {
  it('W15 is in no message, wherever it stands', async () => {
    let refusals = 0;
    fc.assert(
      fc.property(texts, ({ kind, text, yaml }) => {
        const parsed = parseConfig('x.yaml', yaml, {});
        const printed = (parsed.ok ? parsed.warnings : parsed.problems.map(formatProblem)).join('\n');
        expect(printed.toLowerCase(), `${kind}\n${yaml}`).not.toContain(text.toLowerCase());
        if (!parsed.ok) {
          refusals++;
          expect(printed, kind).toMatch(/^x\.yaml:\d+:\d+ /);
        }
      }),
      { numRuns: 800 },
    );
    expect(refusals).toBeGreaterThan(400);
    await new Promise((resolve) => setImmediate(resolve)); // a warning of the process comes on the next turn
    expect(warned).toEqual([]);
  });

  it.each([
    ['start', ['start']],
    ['check', ['check']],
    ['explain', ['explain', 'GET', '/api/orders/7']],
  ])('W15 %s prints none of it', async (_name, command) => {
    const text = 'k3Jx-9aLq_0pZr';
    const broken: ((data: Data) => void)[] = [
      (data) => Object.assign(data, { [text]: `\${env:${text}}`, authorizationServer: { [text]: text } }),
      ...(command[0] === 'start'
        ? [
            (data: Data) => Object.assign(data, { files: `/${text}` }),
            (data: Data) => Object.assign(data, { listen: { host: text, port: 0 } }),
            (data: Data) => Object.assign((data.apis as { orders: Data }).orders, { caFile: `/${text}` }),
            (data: Data) =>
              Object.assign((data.bearerIssuers as { mobile: Data }).mobile, { caFile: `/run/secrets/${text}` }),
          ]
        : []),
    ];
    for (const change of broken) {
      const data = configuration();
      delete (data.session as Data).redis;
      delete (data.apis as { orders: Data }).orders.caFile;
      change(data);
      const { file, remove } = await writeConfig(stringify(data));
      const started = startCloakroom(command[0] as string, ...command.slice(1), '--config', file);
      expect(await started.ended).not.toBe(0);
      expect(started.stderr()).toContain(file);
      // The client's secret is this text everywhere but at the change, and is printed nowhere either.
      expect(started.stdout() + started.stderr()).not.toContain(text);
      await remove();
    }
  });

  it('W15 names what is certainly a name: every key of ours, and what people call their APIs', () => {
    const names = new Set<string>();
    JSON.stringify(configSchema.toJSONSchema({ io: 'input', unrepresentable: 'any' }), (key, value: unknown) => {
      if (key === 'properties') for (const name of Object.keys(value as object)) names.add(name);
      return value;
    });
    expect(names.size).toBeGreaterThan(60);
    for (const name of [...names, 'client_secret', 'base-url', 'clientIdd', 'orders-v2', 'oauth2', '__proto__'])
      expect(isName(name), name).toBe(true);
    fc.assert(fc.property(secret, (text) => !isName(text)));
    const yaml = 'authorizationServer:\n  k3Jx-9aLq_0pZr: x\n  clientIdd: shop\n';
    const parsed = parseConfig('x.yaml', yaml, {});
    const problems = parsed.ok ? [] : parsed.problems.map(formatProblem);
    expect(problems).toContainEqual(
      expect.stringMatching(/^x\.yaml:2:3 authorizationServer\.\(key not shown\): unknown key \(not shown, because/),
    );
    expect(problems).toContainEqual(expect.stringMatching(/^x\.yaml:3:3 authorizationServer\.clientIdd: .*clientId\?/));
  });
});
