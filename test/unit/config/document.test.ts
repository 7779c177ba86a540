import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { loadConfig, parseConfig } from '../../../src/config/load.ts';
import { configOf, problemsOf, problemsOfText, smallest, warningsOf } from './support.ts';

const folder = mkdtempSync(join(tmpdir(), 'cloakroom-unit-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const fileWith = (name: string, content: string): string => {
  const path = join(folder, name);
  writeFileSync(path, content);
  return path;
};

describe('YAML', () => {
  it.each([
    ['a key twice', 'publicUrl: https://a\npublicUrl: https://b\n', /^2:1 is not valid YAML: .*unique/],
    ['a tab for indentation', 'session:\n\tkeys: []\n', /^2:\d+ is not valid YAML/],
    ['an open bracket', 'apis: { orders: [\n', /is not valid YAML/],
    ['an alias without anchor', 'publicUrl: *nowhere\n', /alias.*write the values out/],
    ['a tag', 'publicUrl: !vault app\n', /is not valid YAML: Unresolved tag/],
    ['two documents', 'publicUrl: https://a\n---\npublicUrl: https://b\n', /is not valid YAML/],
    ['a list', '- publicUrl\n', /object/],
    ['a word', 'cloakroom\n', /object/],
    ['nothing', '', /object|required/],
  ])('%s is a problem with its line, not a crash', (_name, text, expected) => {
    expect(problemsOfText(text).join('\n')).toMatch(expected);
  });

  it('refuses an alias bomb at once', () => {
    const lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]'];
    for (let depth = 1; depth < 12; depth++)
      lines.push(`a${depth}: &a${depth} [${Array.from({ length: 10 }, () => `*a${depth - 1}`).join(', ')}]`);
    const startedAt = performance.now();
    expect(problemsOfText(lines.join('\n')).join('\n')).toMatch(/alias/);
    expect(performance.now() - startedAt).toBeLessThan(2000);
  });

  it('accepts an anchor that is used a few times', () => {
    const text = stringify(smallest()).replace(
      /apis:[\s\S]*/,
      'apis:\n  orders: { path: /a, upstream: http://o, timeouts: &t { connect: 1s } }\n  stock: { path: /b, upstream: http://s, timeouts: *t }\n',
    );
    expect(problemsOfText(text)).toEqual([]);
  });

  it('does not let __proto__ reach any object', () => {
    const text = `${stringify(smallest())}__proto__:\n  polluted: yes\n`;
    expect(problemsOfText(text).join('\n')).toMatch(/__proto__: unknown key/);
    expect(({} as Record<string, unknown>).polluted).toBeUndefined();
  });
});

describe('references', () => {
  const key = randomBytes(32).toString('base64url');

  it('${env:NAME} and ${file:PATH} work in every value, also in the middle of one and for numbers', () => {
    const secretFile = fileWith('client_secret', 'from-a-file-4711\n');
    const config = configOf(
      (data) => {
        data.publicUrl = 'https://${env:HOST}';
        data.listen = { port: '${env:PORT}' };
        data.log = { requests: '${env:LOG}' };
        data.workers = '${env:WORKERS}';
        data.authorizationServer.idTokenHint = '${env:HINT}';
        data.session.keys = ['${env:KEY}'];
        data.authorizationServer.clientSecret = `\${file:${secretFile}}`;
      },
      { HOST: 'shop.example.com', PORT: '8443', LOG: 'false', WORKERS: '2', HINT: 'true', KEY: key },
    );
    const [frontend] = config.frontends;
    expect(frontend?.origin).toBe('https://shop.example.com');
    expect(config.listen.port).toBe(8443);
    expect(config.log.requests).toBe(false);
    expect(config.workers).toBe(2);
    expect(frontend?.authorizationServer.idTokenHint).toBe(true);
    expect(frontend?.authorizationServer.clientSecret?.reveal()).toBe('from-a-file-4711');
    expect(Buffer.from(config.session.keys[0]?.reveal() ?? '', 'base64').toString('base64url')).toBe(key);
  });

  it('NAME_FILE stands in for NAME', () => {
    const config = configOf(
      (data) => {
        data.authorizationServer.clientSecret = '${env:CLIENT_SECRET}';
      },
      { CLIENT_SECRET_FILE: fileWith('by_name', 'by-name-file-4711\r\n') },
    );
    expect(config.frontends[0]?.authorizationServer.clientSecret?.reveal()).toBe('by-name-file-4711');
  });

  it('a file is found beside the configuration', () => {
    fileWith('beside', 'beside-the-config-4711');
    const data = smallest();
    data.authorizationServer.clientSecret = '${file:beside}';
    const loaded = loadConfig(fileWith('config.yaml', stringify(data)), {});
    expect(loaded.ok && loaded.config.frontends[0]?.authorizationServer.clientSecret?.reveal()).toBe(
      'beside-the-config-4711',
    );
  });

  it.each([
    [
      'a variable that is not set',
      '${env:NOWHERE}',
      /session\.keys\.0: \$\{env:NOWHERE\}: .*not set: set NOWHERE, or NOWHERE_FILE/,
    ],
    ['an empty variable', '${env:EMPTY}', /EMPTY.*not set/],
    ['a file that is not there', '${file:/nowhere/key}', /\/nowhere\/key can't be read \(ENOENT\): create the file/],
    ['a folder', `\${file:${folder}}`, /EISDIR/],
    ['a NAME_FILE that is not there', '${env:LOST}', /\/nowhere\/lost can't be read \(ENOENT\)/],
  ])('%s is a problem at its key', (_name, reference, expected) => {
    const problems = problemsOf((data) => Object.assign(data.session, { keys: [reference] }), {
      EMPTY: '',
      LOST_FILE: '/nowhere/lost',
    });
    expect(problems.join('\n')).toMatch(expected);
  });

  it('a value from outside is never read as YAML or as another reference', () => {
    const config = configOf(
      (data) => {
        data.authorizationServer.clientId = '${env:ID}';
      },
      { ID: 'x"\nadmin: true # ${env:OTHER} *a', OTHER: 'leak' },
    );
    expect(config.frontends[0]?.authorizationServer.clientId).toBe('x"\nadmin: true # ${env:OTHER} *a');
  });

  it('a file that can not be read as configuration is one problem that names the option', () => {
    const loaded = loadConfig(join(folder, 'missing.yaml'), {});
    expect(loaded.ok ? [] : loaded.problems.map(({ message }) => message)).toEqual([
      "can't be read (ENOENT): name the configuration with --config FILE",
    ]);
  });
});

describe('what is completed', () => {
  it('names cookies by scheme and frontend', () => {
    expect(configOf().frontends[0]).toMatchObject({
      cookieName: '__Host-cloakroom',
      sameSite: 'strict',
      isSecure: true,
    });
    expect(configOf((data) => Object.assign(data, { publicUrl: 'http://localhost:8080' })).frontends[0]).toMatchObject({
      cookieName: 'cloakroom_8080',
      isSecure: false,
      host: 'localhost:8080',
    });
  });

  it('splits a public URL with a path', () => {
    expect(
      configOf((data) => Object.assign(data, { publicUrl: 'https://APP.example.com:443/shop/' })).frontends[0],
    ).toMatchObject({
      origin: 'https://app.example.com',
      host: 'app.example.com',
      basePath: '/shop',
    });
  });

  it('takes user and password out of a Redis URL', () => {
    const { redis } = configOf((data) =>
      Object.assign(data.session.redis, { url: 'rediss://cloak:p%40ss%2Fword@redis:6380/0' }),
    ).session;
    expect(redis).toMatchObject({ url: 'rediss://redis:6380/0', username: 'cloak' });
    expect(redis?.password?.reveal()).toBe('p@ss/word');
  });

  it('accepts keys in base64url, base64 and hex as the same bytes', () => {
    const bytes = randomBytes(32);
    const texts = [
      bytes.toString('base64url'),
      bytes.toString('base64'),
      bytes.toString('hex'),
      bytes.toString('hex').toUpperCase(),
    ];
    const keys = texts.map((text) =>
      configOf((data) => Object.assign(data.session, { keys: [text] })).session.keys[0]?.reveal(),
    );
    expect(new Set(keys)).toEqual(new Set([bytes.toString('base64')]));
  });

  it('warns of what is for development only', () => {
    expect(warningsOf((data) => delete data.session.redis).join()).toMatch(/live in this process/);
    expect(warningsOf((data) => Object.assign(data, { publicUrl: 'http://localhost:8080' })).join()).toMatch(
      /not Secure/,
    );
    expect(
      warningsOf((data) => Object.assign(data.authorizationServer, { issuer: 'http://127.0.0.1:9000' })).join(),
    ).toMatch(/issuer is plain http/);
    const shared = warningsOf((data) => {
      const { publicUrl, authorizationServer } = data;
      for (const key of ['publicUrl', 'authorizationServer', 'apis', 'files', 'cookie']) delete data[key];
      data.frontends = {
        one: { publicUrl, authorizationServer },
        two: { publicUrl: 'https://two.example.com', authorizationServer },
      };
    });
    expect(shared.join()).toMatch(/two and one share the client/);
    expect(warningsOf(() => undefined)).toEqual([]);
  });

  it('is the same whoever reads it: defaults are filled in', () => {
    const parsed = parseConfig('config.yaml', stringify(smallest()), {});
    expect(parsed.ok && parsed.config.session).toMatchObject({ idleTimeout: 1_800_000, absoluteTimeout: 36_000_000 });
    expect(parsed.ok && parsed.config.ops.host).toBe('127.0.0.1');
  });
});
