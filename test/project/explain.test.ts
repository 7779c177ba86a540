import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { formatProblem, loadConfig } from '../../src/config/load.ts';
import { explainCall, readClaims, UnclearQuestionError } from '../../src/explain/explain.ts';

// `cloakroom explain` as operators run it: the example of docs/operations.md, its exit codes, and what it says about
// questions that it can't answer.

const root = resolve(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'cloakroom-explain-'));
afterAll(() => rmSync(folder, { recursive: true }));

const page = readFileSync(join(root, 'docs/operations.md'), 'utf8');
const section = page.slice(page.indexOf('## Why a call is allowed or refused')).split('\n## ')[0] ?? '';
const block = (language: string) =>
  new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'm').exec(section.slice(1))?.[1] ?? expect.fail(language);

const file = (name: string, text: string) => {
  writeFileSync(join(folder, name), text);
  return join(folder, name);
};
const config = file(
  'cloakroom.yaml',
  `${block('yaml').replace(/\$\{file:[^}]+\}/, 'a-real-one-8s7d6f')}\nsession: { keys: ["${randomKey()}"] }\n`,
);
file('alice.json', block('json'));

function randomKey(): string {
  return Buffer.from(Array.from({ length: 32 }, (_, index) => (index * 73 + 129) % 256)).toString('base64url');
}

interface Ran {
  code: number;
  stdout: string;
  stderr: string;
}

const cloakroom = (...args: string[]) =>
  new Promise<Ran>((done) => {
    execFile(
      process.execPath,
      [join(root, 'scripts/cloakroom.cjs'), ...args],
      { cwd: folder },
      (error, stdout, stderr) => done({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
const explain = (...args: string[]) => cloakroom('explain', '--config', config, ...args);

describe('cloakroom explain', () => {
  it('prints what docs/operations.md shows', async () => {
    const [, command = ''] = /-- (.*)/.exec(block('sh')) ?? [];
    const { code, stdout, stderr } = await cloakroom(...command.split(' '));
    expect(stderr).toBe('');
    expect(stdout).toBe(block('text'));
    expect(code).toBe(1);
  });

  it('exits with 0 for a call that is allowed, and 1 for one that is not', async () => {
    file('mfa.json', '{"sub":"alice","roles":["support"],"acr":"urn:mfa"}');
    const target = '/api/orders/7/refunds';
    expect(await explain('POST', target, '--as', 'mfa.json')).toMatchObject({ code: 0, stderr: '' });
    expect(await explain('post', target, '--as', 'mfa.json')).toMatchObject({ code: 0 });
    expect(await explain('POST', target)).toMatchObject({ code: 1, stderr: '' });
    expect(await explain('GET', '/nothing', '--as', 'mfa.json')).toMatchObject({ code: 1, stderr: '' });
  });

  it('says whose calls meet one target, where that is set (W64)', () => {
    const [server, several] = [
      'authorizationServer: { issuer: "https://id.example", clientId: a, clientSecret: bcd-1234-efgh }',
      'upstream: ["http://a", "http://b"], affinity: session',
    ];
    const loaded = loadConfig(
      file(
        'affinity.yaml',
        `{ publicUrl: "https://shop.example", ${server}, session: { keys: ["${randomKey()}"] }, apis: { chat: { path: /api/chat, ${several} }, open: { path: /api/open, token: none, ${several} }, one: { path: /api/one, upstream: "http://a", affinity: session } } }`,
      ),
      {},
    );
    if (!loaded.ok) throw new Error(loaded.problems.map(formatProblem).join('\n'));
    const said = (target: string, claims?: { sub: string }) =>
      /^affinity +(.*)$/m.exec(
        explainCall(loaded.config, { method: 'GET', target, ...(claims && { claims }) }).text,
      )?.[1];
    expect(said('/api/chat/1', { sub: 'alice' })).toBe('one of these for all calls of the session');
    expect(said('/api/open/1')).toBe('one of these for all calls of the browser’s address');
    expect(said('/api/one/1', { sub: 'alice' })).toBeUndefined();
  });

  it('says what a development server gets, and from where', async () => {
    const local = readFileSync(config, 'utf8').replace('https://shop.example.com', 'http://localhost:8080');
    const withDevServer = file('dev.yaml', `${local}devServer: http://localhost:5173\n`);
    const { code, stdout } = await cloakroom('explain', 'GET', '/src/main.ts?t=1', '--config', withDevServer);
    expect([code, stdout]).toEqual([
      0,
      expect.stringMatching(
        /^GET \S+: allowed\n(.*\n)*devServer http:\/\/localhost:5173: whatever is no API’s, from this machine/,
      ),
    ]);
  });

  it('prints no secret', async () => {
    const { stdout } = await explain('POST', '/api/orders/7/refunds', '--as', 'alice.json');
    expect(stdout).not.toContain('8s7d6f');
    expect(stdout).not.toContain(randomKey());
  });

  const badClaims: Record<string, [text: string, says: RegExp]> = {
    'no JSON': ['{"sub": s3cret', /is no JSON: write the claims of an ID token, such as/],
    'a list': ['[]', /is no JSON object/],
    nothing: ['null', /is no JSON object/],
    'no sub': ['{"roles":["admin"]}', /sub must be a text/],
    'a number for sub': ['{"sub":7}', /sub must be a text/],
    'a list for acr': ['{"sub":"a","acr":["x"]}', /acr must be a text/],
    'text for auth_time': ['{"sub":"a","auth_time":"now"}', /auth_time must be a number, in seconds since 1970/],
    'a list for scope': ['{"sub":"a","scope":["x"]}', /scope must be a text/],
  };
  it.each(Object.entries(badClaims))('refuses a claims file with %s', (_name, [text, says]) => {
    const read = () => readClaims(file('bad.json', text));
    expect(read).toThrow(UnclearQuestionError);
    expect(read).toThrow(says);
    expect(read).not.toThrow(/s3cret/);
  });

  it.each([
    [
      { target: '/api/orders/1', host: 'evil.example' },
      /no frontend is on the host evil\.example: use one of shop\.example/,
    ],
    [{ target: '/api/orders/1', method: 'FETCH' }, /FETCH is no method of an API: use one of GET, HEAD/],
    [{ target: 'api/orders' }, /api\/orders is no path: give it as browsers ask for it/],
    [{ target: 'https://shop.example.com/api/orders' }, /is no path/],
    [{ target: '/bff/session' }, /\/bff\/session is Cloakroom’s own: .*docs\/endpoints\.md/],
  ])('does not guess what %j means', (question, says) => {
    const loaded = loadConfig(config, {});
    if (!loaded.ok) throw new Error('not valid');
    const ask = () => explainCall(loaded.config, { method: 'GET', ...question });
    expect(ask).toThrow(UnclearQuestionError);
    expect(ask).toThrow(says);
  });

  it.each([
    [['GET', '/api/orders/1', '--as', 'nowhere.json'], /nowhere\.json can’t be read \(ENOENT\): name a file with --as/],
    [['GET', '/api/orders/1', '--as'], /name the claims file: --as CLAIMS\.json/],
    [['GET', '/api/orders/1', '--host'], /name the host: --host HOST/],
    [['GET'], /name the call: cloakroom explain GET \/api\/orders\/7 --config FILE/],
  ])('answers %j with 2 and the cure', async (args, says) => {
    const { code, stdout, stderr } = await explain(...args);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(says);
    expect(stderr).not.toMatch(/^\s+at /m);
  });

  it('answers a configuration that is not valid with 2 and its problems', async () => {
    const bad = file('bad.yaml', 'publicUrl: ftp://x\n');
    const { code, stderr } = await cloakroom('explain', 'GET', '/x', '--config', bad);
    expect(code).toBe(2);
    expect(stderr).toMatch(/bad\.yaml:1:\d+ publicUrl: /);
  });

  it.each([
    ['never', 'of the ID token; UserInfo is not asked'],
    ['login', 'of the ID token, and those that it lacks from UserInfo, as of the login'],
    ['always', 'of the ID token, and those that it lacks from UserInfo, as of the login or the last refresh'],
  ])('W29 says where claims come from with userInfo: %s', (userInfo, expected) => {
    const text = readFileSync(config, 'utf8').replace('clientId: shop', `clientId: shop\n  userInfo: ${userInfo}`);
    const loaded = loadConfig(file('userinfo.yaml', text), {});
    if (!loaded.ok) throw new Error(loaded.problems.map(formatProblem).join());
    const ask = (claims?: { sub: string }) =>
      explainCall(loaded.config, { method: 'GET', target: '/api/orders/1', ...(claims && { claims }) }).text;
    expect(/^claims +(.*)$/m.exec(ask({ sub: 'alice' }))?.[1]).toBe(expected);
    expect(ask()).not.toMatch(/^claims/m); // nobody has any
  });

  it('asks which frontend is meant, and knows them apart', () => {
    const server =
      'authorizationServer: { issuer: https://id.example.com, clientId: x, clientSecret: a-real-one-8s7d6f }';
    const frontend = (publicUrl: string, api: string) =>
      `{ publicUrl: "${publicUrl}", ${server}, apis: { ${api}: { path: /api/${api}, upstream: "http://${api}" } } }`;
    const several = file(
      'several.yaml',
      `frontends:\n  shop: ${frontend('https://a.example.com', 'shop')}\n  one: ${frontend('https://b.example.com/one', 'mine')}\n  two: ${frontend('https://b.example.com/two', 'other')}\nsession: { keys: ["${randomKey()}"] }\n`,
    );
    const loaded = loadConfig(several, {});
    if (!loaded.ok) throw new Error(loaded.problems.map(formatProblem).join());
    const ask = (target: string, host?: string) =>
      explainCall(loaded.config, { method: 'GET', target, ...(host === undefined ? {} : { host }) }).text;
    expect(() => ask('/api/shop')).toThrow('add --host with one of a.example.com, b.example.com');
    expect(ask('/api/shop', 'A.example.com')).toContain('frontend  shop, https://a.example.com');
    expect(ask('/two/api/other/1', 'b.example.com')).toMatch(
      /frontend {2}two, https:\/\/b\.example\.com\/two\nAPI +other, \/two\/api\/other\n[\s\S]*http:\/\/other, GET \/1/,
    );
    expect(ask('/one/api/other/1', 'b.example.com')).toContain('404 BFF_ROUTE_UNKNOWN');
    expect(ask('/api/other/1', 'b.example.com')).toContain('404 BFF_ROUTE_UNKNOWN');
  });
});
