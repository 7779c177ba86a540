import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { brotliCompressSync, brotliDecompressSync, gunzipSync, gzipSync } from 'node:zlib';
import { request } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { until } from '../support/wait.ts';
import { startWorld, type World } from '../support/world.ts';

// The SPA's files as the best static hosts serve them.

let folder: string;
let world: World;
let bundle: Buffer;

const json = JSON.stringify({ applinks: { details: [] } });
const page = '<!doctype html><html lang=en><title>the SPA</title></html>';
const large = Buffer.alloc(3 * 1024 * 1024, 'abcdefghijklmnop');

beforeAll(async () => {
  bundle = await realBundle();
  folder = await mkdtemp(join(tmpdir(), 'cloakroom-spa-'));
  const files: Record<string, string | Buffer> = {
    'index.html': page,
    'docs/index.html': 'the docs',
    'docs/a b/index.html': 'a page of the docs',
    'about.html': 'about us',
    'about/team.html': 'the team',
    'assets/index-BxYzAbCd.js': bundle,
    'assets/style-Cn3x_0aQ.css': 'a{color:red}'.repeat(400),
    'assets/tiny-4f9c2d1a.js': 'tiny()',
    'apple-touch-icon-180x180.png': Buffer.from('png '.repeat(1000)),
    'service-worker-v2.js': '0'.repeat(2000),
    'runtime-config-v1.js': 'window.config={}',
    '_next/static/chunks/app.js': 'next()',
    'main.8f3a2b1c.chunk.js': 'chunk()',
    'module.wasm': Buffer.alloc(5000, 7),
    'data.json': JSON.stringify({ some: 'data'.repeat(1000) }),
    'manifest.webmanifest': '{}',
    'video.mp4': large,
    '.well-known/assetlinks.json': json,
    '.well-known/apple-app-site-association': json,
    '.well-known/security.txt': 'Contact: mailto:security@example.com',
    '.well-known/acme-challenge/token': 'token.thumbprint',
    '.well-known/.hidden': 'hidden',
    '.env': 'SECRET=1',
    '.git/config': 'url',
    '.vite/manifest.json': '{}',
    // As a build writes them, and as one forgets them.
    'fresh.js': 'fresh();'.repeat(500),
    'fresh.js.br': brotliCompressSync('fresh();'.repeat(500), { params: { 1: 3 } }),
    'fresh.js.gz': gzipSync('fresh();'.repeat(500), { level: 1 }),
    'stale.js': 'stale(2);'.repeat(500),
    'stale.js.br': brotliCompressSync('stale(1);'.repeat(500)),
    'stale.js.gz': 'no gzip',
  };
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), content);
  }
  world = await startWorld({
    store: 'memory',
    config: (data) => {
      data.files = folder;
    },
  });
});
afterAll(async () => {
  await world.stop();
  await rm(folder, { recursive: true });
});

/** A chunk that Vite made for the browser, cut to 270 KB. */
async function realBundle(): Promise<Buffer> {
  const root = dirname(createRequire(import.meta.url).resolve('playwright-core/package.json'));
  const assets = join(root, 'lib/vite/traceViewer/assets');
  const name = (await readdir(assets)).find((one) => /^xtermModule-.*\.js$/.test(one)) ?? '';
  return (await readFile(join(assets, name))).subarray(0, 270_000);
}

async function get(path: string, headers: Record<string, string> = {}, method: 'GET' | 'HEAD' | 'POST' = 'GET') {
  const answer = await request(`${world.origin}${path}`, { method, headers });
  const body = Buffer.from(await answer.body.arrayBuffer());
  const { statusCode: status, headers: got } = answer;
  return { status, body, text: body.toString('utf8'), headers: got, header: (name: string) => got[name] as string };
}
const navigation = { 'sec-fetch-mode': 'navigate', 'sec-fetch-dest': 'document', accept: 'text/html,*/*;q=0.8' };
const script = { 'sec-fetch-mode': 'no-cors', 'sec-fetch-dest': 'script', accept: '*/*' };

describe('W55 tags', () => {
  it('W55 are those of the content, and there is no date', async () => {
    const first = await get('/data.json');
    expect(first.header('etag')).toMatch(/^"[\w-]{16,}"$/);
    expect(first.headers).not.toHaveProperty('last-modified');
    expect((await get('/', { 'if-modified-since': new Date().toUTCString() })).status).toBe(200);
    // The same content elsewhere has the same tag, whatever its date.
    const other = await mkdtemp(join(tmpdir(), 'cloakroom-spa-'));
    await writeFile(join(other, 'index.html'), 'another page, of another length');
    await writeFile(join(other, 'data.json'), first.body);
    await utimes(join(other, 'data.json'), 1, 1);
    const replica = await startWorld({ store: 'memory', config: (data) => Object.assign(data, { files: other }) });
    const { headers, body } = await request(`${replica.origin}/data.json`);
    await body.dump();
    expect(headers.etag).toBe(first.header('etag'));
    await replica.stop();
    await rm(other, { recursive: true });
  });

  it.each([
    ['itself', (tag: string) => tag, 304],
    ['a list', (tag: string) => `"x", ${tag} , "y,z"`, 304],
    ['weak', (tag: string) => `W/${tag}`, 304],
    ['any', () => '*', 304],
    ['another', () => '"x"', 200],
    ['without quotes', (tag: string) => tag.replaceAll('"', ''), 200],
  ])('W55 If-None-Match: %s', async (_name, write, status) => {
    const { header } = await get('/data.json');
    for (const method of ['GET', 'HEAD'] as const) {
      const answer = await get('/data.json', { 'if-none-match': write(header('etag')) }, method);
      expect(answer.status).toBe(status);
      expect(answer.header('etag')).toBe(header('etag'));
      expect(answer.header('cache-control')).toBe('no-cache');
      expect(answer.header('vary')).toBe('Accept-Encoding');
      if (status === 304) expect(Object.keys(answer.headers)).not.toContain('content-type');
    }
  });

  it('W55 each coding has its own', async () => {
    const tags = new Set<string>();
    for (const coding of ['identity', 'gzip', 'br']) {
      const { header } = await get('/data.json', { 'accept-encoding': coding });
      tags.add(header('etag'));
      const again = await get('/data.json', { 'accept-encoding': coding, 'if-none-match': header('etag') });
      expect([again.status, again.header('etag')]).toEqual([304, header('etag')]);
      const plain = await get('/data.json', { 'if-none-match': header('etag') });
      expect(plain.status).toBe(coding === 'identity' ? 304 : 200);
    }
    expect(tags.size).toBe(3);
  });

  it('W55 If-Match', async () => {
    const { header } = await get('/data.json');
    expect((await get('/data.json', { 'if-match': `"x", ${header('etag')}` })).status).toBe(200);
    expect((await get('/data.json', { 'if-match': '*' })).status).toBe(200);
    for (const tag of ['"x"', `W/${header('etag')}`]) {
      const refused = await get('/data.json', { 'if-match': tag });
      expect([refused.status, JSON.parse(refused.text).code]).toEqual([412, 'BFF_PRECONDITION_FAILED']);
    }
  });
});

it.each([
  ['/apple-touch-icon-180x180.png', 'no-cache'],
  ['/service-worker-v2.js', 'no-cache'],
  ['/runtime-config-v1.js', 'no-cache'],
  ['/', 'no-cache'],
  ['/.well-known/assetlinks.json', 'no-cache'],
  ['/assets/index-BxYzAbCd.js', 'public, max-age=31536000, immutable'],
  ['/_next/static/chunks/app.js', 'public, max-age=31536000, immutable'],
  ['/main.8f3a2b1c.chunk.js', 'public, max-age=31536000, immutable'],
])('W57 %s is %s', async (path, wanted) => {
  expect((await get(path)).header('cache-control')).toBe(wanted);
});

describe('W58 /.well-known', () => {
  it.each([
    ['assetlinks.json', 'application/json', json],
    ['apple-app-site-association', 'application/json', json],
    ['security.txt', 'text/plain; charset=utf-8', 'Contact: mailto:security@example.com'],
    ['acme-challenge/token', 'text/plain; charset=utf-8', 'token.thumbprint'],
  ])('W58 %s is served', async (name, type, text) => {
    const answer = await get(`/.well-known/${name}`);
    expect([answer.status, answer.header('content-type'), answer.text]).toEqual([200, type, text]);
  });

  it('W58 and no other name with a dot, nor the page instead', async () => {
    const paths = [
      '/.env',
      '/.git/config',
      '/.vite/manifest.json',
      '/.well-known/.hidden',
      '/.well-known/none',
      '/.x/y',
    ];
    for (const path of paths)
      for (const headers of [{}, navigation]) expect((await get(path, headers)).status, path).toBe(404);
  });
});

describe('W59 deep links', () => {
  it('W59 HEAD is GET without the body, whoever asks', async () => {
    for (const headers of [navigation, {}, { accept: '*/*' }, { accept: 'text/html' }, script, { accept: 'image/png' }])
      for (const path of ['/orders/1', '/', '/data.json', '/video.mp4', '/assets/none-4f9c2d1a.js', '/docs', '/.env']) {
        const answer = await get(path, headers);
        const head = await get(path, headers, 'HEAD');
        expect([head.status, head.body.length], path).toEqual([answer.status, 0]);
        const {
          date: _date,
          'x-request-id': _id,
          'keep-alive': _alive,
          connection: _connection,
          ...wanted
        } = answer.headers;
        // The text of a problem has the id of its request in it; its length stays.
        expect(head.headers).toMatchObject(wanted);
      }
    expect((await get('/orders/1', {}, 'HEAD')).header('content-type')).toBe('text/html; charset=utf-8');
  });

  it('W59 get the page, whatever they look like; programs of a page and what looks like a file do not', async () => {
    for (const path of ['/orders/1', '/users/john.doe', '/a/b/c/', '/caf%C3%A9'])
      expect((await get(path, navigation)).text, path).toBe(page);
    expect((await get('/orders/1', { accept: '*/*' })).text).toBe(page);
    const refused: [string, Record<string, string>][] = [
      ['/assets/gone-4f9c2d1a.js', script],
      ['/assets/gone', script],
      ['/orders/1', { 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty', accept: '*/*' }],
      ['/gone.js', {}],
      ['/orders/1', { accept: 'application/json' }],
      ['/orders/1', { 'x-requested-with': 'XMLHttpRequest' }],
      ['/orders/1', { 'x-csrf': '1' }],
    ];
    for (const [path, headers] of refused) {
      const answer = await get(path, headers);
      expect([answer.status, answer.header('content-type')], path).toEqual([
        404,
        'application/problem+json; charset=utf-8',
      ]);
      expect(JSON.parse(answer.text).code).toBe('BFF_ROUTE_UNKNOWN');
    }
  });

  it('W59 a folder with a page of its own is led to with the slash', async () => {
    for (const [path, target] of [
      ['/docs', '/docs/'],
      ['/docs?q=%2F1&x', '/docs/?q=%2F1&x'],
      ['/docs/a%20b', '/docs/a%20b/'],
    ] as const) {
      const answer = await get(path, navigation);
      expect([answer.status, answer.header('location'), answer.header('cache-control')]).toEqual([
        308,
        target,
        'no-cache',
      ]);
    }
    expect((await get('/docs/', navigation)).text).toBe('the docs');
    expect((await get('/docs/more', navigation)).text).toBe(page);
  });

  it('W59 a page of its own is found without its ending, as exported sites link to it', async () => {
    for (const headers of [navigation, {}, { 'sec-fetch-mode': 'cors', 'sec-fetch-dest': 'empty' }])
      for (const [path, text] of [
        ['/about', 'about us'],
        ['/about?q=1', 'about us'],
        ['/about.html', 'about us'],
        ['/about/team', 'the team'],
      ] as const)
        expect([path, (await get(path, headers)).text]).toEqual([path, text]);
    for (const path of ['/about/', '/about/none', '/about.htm'])
      expect((await get(path, navigation)).text, path).toBe(page);
    expect((await get('/about/none', script)).status).toBe(404);
  });

  it('W59 a frontend below a path is led to with the slash', async () => {
    const below = await startWorld({
      store: 'memory',
      config: (data) => Object.assign(data, { files: folder, publicUrl: `${data.publicUrl}/app` }),
    });
    const ask = async (path: string) => {
      const { statusCode, headers, body } = await request(`${below.origin}${path}`, { headers: navigation });
      return [statusCode, headers.location, await body.text()];
    };
    expect(await ask('/app')).toEqual([308, '/app/', '']);
    expect(await ask('/app?x=1')).toEqual([308, '/app/?x=1', '']);
    expect(await ask('/app/docs')).toEqual([308, '/app/docs/', '']);
    expect(await ask('/app/')).toEqual([200, undefined, page]);
    expect(await ask('/app/orders/1')).toEqual([200, undefined, page]);
    expect((await ask('/orders/1'))[0]).toBe(404);
    await below.stop();
  });
});

describe('W62 codings', () => {
  it('W62 a bundle of 270 KB takes less than 90 KB', async () => {
    expect(bundle.length).toBe(270_000);
    const ask = () => get('/assets/index-BxYzAbCd.js', { 'accept-encoding': 'br, gzip' });
    expect((await ask()).body.length).toBeLessThan(90_000); // the first one, whatever was done in time
    const answer = await until(async () => [await ask()].find(({ header }) => header('content-encoding') === 'br'));
    expect(answer.body.length).toBeLessThan(90_000);
    expect(answer.header('vary')).toBe('Accept-Encoding');
    expect(answer.header('content-length')).toBe(String(answer.body.length));
    expect(brotliDecompressSync(answer.body).equals(bundle)).toBe(true);
    const gzipped = await get('/assets/index-BxYzAbCd.js', { 'accept-encoding': 'gzip' });
    expect(gunzipSync(gzipped.body).equals(bundle)).toBe(true);
  });

  it.each([
    ['br, gzip', 'br'],
    ['gzip, deflate, br, zstd', 'br'],
    ['gzip', 'gzip'],
    ['x-gzip', 'gzip'],
    ['GZIP', 'gzip'],
    ['*', 'br'],
    ['br;q=0, *', 'gzip'],
    ['br;q=0.5, gzip;q=0.9', 'gzip'],
    ['gzip;q=0.5, identity', undefined],
    ['br;q=0, gzip;q=0', undefined],
    ['identity;q=0, br', 'br'],
    ['*;q=0.1, identity;q=0', 'br'],
    ['identity;q=0', undefined],
    ['deflate, zstd', undefined],
    ['', undefined],
    [undefined, undefined],
  ])('W62 Accept-Encoding: %s is answered in %s', async (asked, coding) => {
    const answer = await get('/data.json', asked === undefined ? {} : { 'accept-encoding': asked });
    expect([answer.status, answer.header('content-encoding'), answer.header('vary')]).toEqual([
      200,
      coding,
      'Accept-Encoding',
    ]);
  });

  it('W62 what is small or compressed already stays plain', async () => {
    for (const path of ['/assets/tiny-4f9c2d1a.js', '/apple-touch-icon-180x180.png', '/video.mp4']) {
      const answer = await get(path, { 'accept-encoding': 'br, gzip' });
      expect([answer.header('content-encoding'), answer.header('vary')], path).toEqual([undefined, undefined]);
    }
    const wasm = await get('/module.wasm', { 'accept-encoding': 'br' });
    expect([wasm.header('content-encoding'), wasm.header('content-type')]).toEqual(['br', 'application/wasm']);
  });

  it('W62 what the build compressed is sent, if it is of this file', async () => {
    for (const [coding, ending, open] of [
      ['br', 'br', brotliDecompressSync],
      ['gzip', 'gz', gunzipSync],
    ] as const) {
      const fresh = await get('/fresh.js', { 'accept-encoding': coding });
      expect(fresh.body.equals(await readFile(join(folder, `fresh.js.${ending}`)))).toBe(true);
      expect([fresh.header('content-encoding'), fresh.header('content-type')]).toEqual([
        coding,
        'text/javascript; charset=utf-8',
      ]);
      const stale = await get('/stale.js', { 'accept-encoding': coding });
      expect([stale.header('content-encoding'), open(stale.body).toString()]).toEqual([
        coding,
        'stale(2);'.repeat(500),
      ]);
    }
  });
});

describe('ranges', () => {
  it.each([
    ['bytes=0-4', 206, 'bytes 0-4/3145728', 'abcde'],
    ['bytes=3145726-', 206, 'bytes 3145726-3145727/3145728', 'op'],
    ['bytes=-3', 206, 'bytes 3145725-3145727/3145728', 'nop'],
    ['bytes=3145727-99999999', 206, 'bytes 3145727-3145727/3145728', 'p'],
    ['Bytes = 1-1', 206, 'bytes 1-1/3145728', 'b'],
  ])('W62 %s is a part', async (range, status, contentRange, text) => {
    const answer = await get('/video.mp4', { range });
    expect([answer.status, answer.header('content-range'), answer.text]).toEqual([status, contentRange, text]);
    expect(answer.header('content-length')).toBe(String(text.length));
    const head = await get('/video.mp4', { range }, 'HEAD');
    expect([head.header('content-length'), head.body.length]).toEqual([String(text.length), 0]);
  });

  it('W62 what is no single range gets all of it', async () => {
    for (const range of ['bytes=0-1,3-4', 'bytes=5-1', 'bytes=-', 'lines=1-2', 'bytes=a-b', 'bytes=1']) {
      const answer = await get('/video.mp4', { range });
      expect([answer.status, createHash('sha256').update(answer.body).digest('hex')], range).toEqual([
        200,
        createHash('sha256').update(large).digest('hex'),
      ]);
    }
  });

  it('W62 beyond its end is 416', async () => {
    for (const range of ['bytes=3145728-', 'bytes=-0', 'bytes=99999999999999999999-']) {
      const answer = await get('/video.mp4', { range });
      expect([answer.status, answer.header('content-range')]).toEqual([416, 'bytes */3145728']);
      expect(JSON.parse(answer.text).code).toBe('BFF_RANGE_UNSATISFIABLE');
    }
  });

  it('W62 is one of the coding, and of what If-Range knows', async () => {
    const whole = await get('/data.json', { 'accept-encoding': 'gzip' });
    const part = await get('/data.json', { 'accept-encoding': 'gzip', range: 'bytes=3-9' });
    expect([part.status, part.header('content-encoding'), part.header('etag')]).toEqual([
      206,
      'gzip',
      whole.header('etag'),
    ]);
    expect(part.body.equals(whole.body.subarray(3, 10))).toBe(true);
    const status = async (ifRange: string) =>
      (await get('/data.json', { 'accept-encoding': 'gzip', range: 'bytes=3-9', 'if-range': ifRange })).status;
    expect(await status(whole.header('etag'))).toBe(206);
    for (const other of ['"x"', `W/${whole.header('etag')}`, new Date().toUTCString()])
      expect(await status(other)).toBe(200);
  });
});

it('W55 every answer has the headers of security', async () => {
  for (const path of ['/', '/data.json', '/orders/1']) {
    const { headers } = await get(path, navigation);
    expect(headers).toMatchObject({
      'content-security-policy': "base-uri 'self'; object-src 'self'; frame-ancestors 'self'",
      'referrer-policy': 'strict-origin-when-cross-origin',
      'x-content-type-options': 'nosniff',
      'x-frame-options': 'SAMEORIGIN',
    });
  }
});
