import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { Server as HttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FileStore } from '@tus/file-store';
import { Server, type ServerOptions } from '@tus/server';
import { Upload, type UploadOptions } from 'tus-js-client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { type ProxyWorld, startProxyWorld } from '../support/proxy-world.ts';
import { rawRequest } from '../support/raw-client.ts';

// W50 to W52: tus-js-client uploads through Cloakroom to @tus/server, as it comes and with its option for proxies. The
// configuration is that of docs/apis.md.

const folder = mkdtempSync(join(tmpdir(), 'cloakroom-tus-'));
const recipe = readFileSync(join(import.meta.dirname, '../../docs/apis.md'), 'utf8')
  .split('\n## Resumable uploads (tus)\n')[1]
  ?.match(/```yaml\n([\s\S]*?)```/)?.[1];
const settings = parse(recipe as string).apis.uploads;

interface TusServer {
  url: string;
  stop(): Promise<unknown>;
}

async function startTusServer(options: Partial<ServerOptions> = {}): Promise<TusServer> {
  const tus = new Server({ path: '/files', datastore: new FileStore({ directory: folder }), ...options });
  const http: HttpServer = await new Promise((resolve) => {
    const server = tus.listen(0, '127.0.0.1', () => resolve(server));
  });
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`,
    stop: () => {
      http.closeAllConnections();
      return new Promise((resolve) => http.close(resolve));
    },
  };
}

let world: ProxyWorld;
let servers: TusServer[];
beforeAll(async () => {
  servers = await Promise.all([startTusServer(), startTusServer({ respectForwardedHeaders: true })]);
  world = await startProxyWorld((data) => {
    const [plain, trusting] = servers as [TusServer, TusServer];
    data.apis.uploads = { ...settings, upstream: plain.url };
    data.apis.trusting = { ...settings, path: '/api/trusting', upstream: trusting.url };
    data.apis.inside = { ...settings, path: '/api/inside', rewritePath: '/files', upstream: plain.url };
  });
});
afterAll(async () => {
  await world.stop();
  await Promise.all(servers.map((server) => server.stop()));
  rmSync(folder, { recursive: true });
});

const stored = (url: string) => readFileSync(join(folder, url.split('/').at(-1) as string));

/** What the page sets, and what the browser adds to it. */
const pageHeaders = () => ({
  'x-csrf': '1',
  'sec-fetch-site': 'same-origin',
  cookie: world.cookieLine.replace('Cookie: ', ''),
});

/** Uploads as Alice's page does. Ends with the address of what was uploaded. */
function upload(content: Buffer, endpoint: string, options: UploadOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const started = new Upload(content, {
      endpoint: `${world.origin}${endpoint}`,
      headers: pageHeaders(),
      chunkSize: 64 * 1024,
      retryDelays: null,
      metadata: { filename: 'a.bin' },
      onError: reject,
      onSuccess: () => resolve(started.url as string),
      ...options,
    });
    started.start();
  });
}

describe.each(['/api/uploads/files', '/api/trusting/files', '/api/inside'])('tus at %s', (endpoint) => {
  it('W50 W51 uploads a file in pieces, at an address of ours', async () => {
    const content = randomBytes(200_000);
    const url = await upload(content, endpoint);
    expect(url).toMatch(new RegExp(`^${world.origin}${endpoint}/\\w+$`));
    expect(stored(url).equals(content)).toBe(true);
  });

  it('W50 goes on where an upload was cut off, and says how far it is', async () => {
    const content = randomBytes(200_000);
    const url = await new Promise<string>((resolve, reject) => {
      const cut: Upload = new Upload(content, {
        endpoint: `${world.origin}${endpoint}`,
        headers: pageHeaders(),
        chunkSize: 64 * 1024,
        onError: reject,
        onChunkComplete: () => void cut.abort().then(() => resolve(cut.url as string), reject),
      });
      cut.start();
    });
    const offset = stored(url).length;
    expect(offset).toBeGreaterThan(0);
    expect(offset).toBeLessThan(content.length);
    const head = await rawRequest(world.port, world.head(new URL(url).pathname, ['Tus-Resumable: 1.0.0'], 'HEAD'));
    const said = Object.fromEntries(head.responses[0]?.headers ?? []);
    expect(said).toMatchObject({
      'upload-offset': String(offset),
      'upload-length': '200000',
      'tus-resumable': '1.0.0',
    });
    expect(await upload(content, endpoint, { uploadUrl: url })).toBe(url);
    expect(stored(url).equals(content)).toBe(true);
  });

  it('W50 creates and uploads in one request, of unknown length too', async () => {
    const content = randomBytes(50_000);
    expect(stored(await upload(content, endpoint, { uploadDataDuringCreation: true })).equals(content)).toBe(true);
    const deferred = await upload(content, endpoint, { uploadLengthDeferred: true });
    expect(stored(deferred).equals(content)).toBe(true);
  });
});
