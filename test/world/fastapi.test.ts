import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Started, startProcess, untilAnswers } from '../support/process.ts';
import { rawRequest } from '../support/raw-client.ts';
import { freePort } from '../support/redis.ts';
import { startWorld, type World } from '../support/world.ts';
import { installPackages } from './support/python.ts';

// W51, W52: FastAPI under uvicorn and gunicorn, as they come. They believe X-Forwarded-Proto, keep Host, and redirect
// `/items` to `https://127.0.0.1:…/items/`.

const project = join(import.meta.dirname, 'support/fastapi');
const publicHost = 'app.example.com';

/** What runs it, with its arguments behind the port. */
const servers: [name: string, program: string, args: (port: number) => string[]][] = [
  ['uvicorn', 'uvicorn', (port) => ['main:app', '--port', String(port)]],
  ['gunicorn', 'gunicorn', (port) => ['-k', 'uvicorn_worker.UvicornWorker', '-b', `127.0.0.1:${port}`, 'main:app']],
  ['told', 'uvicorn', (port) => ['main:app', '--port', String(port), '--root-path', '/api/told']],
];

let world: World;
const running: Started[] = [];
beforeAll(async () => {
  const bin = join(await installPackages(join(project, 'requirements.txt')), 'bin');
  const ports = await Promise.all(servers.map(() => freePort()));
  for (const [index, [, program, args]] of servers.entries()) {
    const port = ports[index] as number;
    const command = ['--pdeathsig=KILL', join(bin, program), ...args(port)];
    const started = startProcess('setpriv', command, { PYTHONDONTWRITEBYTECODE: '1' }, project);
    running.push(started);
    await untilAnswers(`http://127.0.0.1:${port}/items/`, 200, started, 60_000);
  }
  world = await startWorld({
    store: 'memory',
    config(data) {
      data.publicUrl = `https://${publicHost}`;
      for (const [index, [name]] of servers.entries())
        data.apis[name] = { path: `/api/${name}`, upstream: `http://127.0.0.1:${ports[index]}`, token: 'none' };
    },
  });
});
afterAll(async () => {
  await world?.stop();
  await Promise.all(running.map((each) => each.kill()));
});

/** One call, as the terminator of TLS passes it on. */
async function call(path: string, method = 'GET') {
  const lines = [`Host: ${publicHost}`, 'X-CSRF: 1', 'Sec-Fetch-Site: same-origin', 'Content-Length: 0'];
  const head = `${method} ${path} HTTP/1.1\r\n${lines.join('\r\n')}\r\n\r\n`;
  const { status, body, responses } = await rawRequest(world.port, head);
  const location = responses[0]?.headers.find(([name]) => name.toLowerCase() === 'location')?.[1];
  return { status, body, location };
}

describe.each(servers.map(([name]) => name))('FastAPI: %s', (name) => {
  it('W51 a missing slash leads to the same API, and on', async () => {
    const { status, location } = await call(`/api/${name}/items?page=2`);
    expect({ status, location }).toEqual({ status: 307, location: `/api/${name}/items/?page=2` });
    expect((await call(location as string)).status).toBe(200);
  });

  it('W51 what was made is found', async () => {
    const { status, location } = await call(`/api/${name}/items/`, 'POST');
    expect({ status, location }).toEqual({ status: 201, location: `/api/${name}/items/7` });
    expect(JSON.parse((await call(location as string)).body)).toEqual({ number: 7 });
  });

  it('W52 it is told what was stripped, and with which scheme', async () => {
    const { url, prefix, scheme } = JSON.parse((await call(`/api/${name}/items/`)).body);
    expect({ prefix, scheme }).toEqual({ prefix: `/api/${name}`, scheme: 'https' });
    // A root path is what makes the links in its bodies right; it does not take it from the header.
    expect(new URL(url).pathname).toBe(name === 'told' ? '/api/told/items/' : '/items/');
  });
});
