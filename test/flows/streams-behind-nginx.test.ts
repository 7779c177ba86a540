import { afterAll, beforeAll, expect, it } from 'vitest';
import { createGate } from '../support/api-calls.ts';
import { type Browser, createBrowser } from '../support/browser.ts';
import { reply } from '../support/echo-upstream/answers.ts';
import { type Nginx, startNginx } from '../support/nginx.ts';
import type { HeaderLine } from '../support/raw-response.ts';
import { freePort } from '../support/redis.ts';
import { startWorld, type World } from '../support/world.ts';

// W3: of nginx's own headers this alone passes, X-Accel-Buffering. nginx as it is by default holds a stream back without it.

let world: World;
let nginx: Nginx;
let browser: Browser;

beforeAll(async () => {
  world = await startWorld({ store: 'memory' });
  const port = await freePort();
  const location = `location / { proxy_pass http://127.0.0.1:${world.port}; proxy_set_header Host $http_host; }`;
  nginx = await startNginx({ port, http: `server { listen 127.0.0.1:${port}; ${location} }`, files: {} });
  browser = createBrowser({ origin: world.origin, connectTo: `http://127.0.0.1:${port}` });
  await browser.login('/');
});
afterAll(async () => {
  await browser.close();
  await nginx.stop();
  await world.stop();
});

const streams: Record<string, HeaderLine[]> = {
  'an event stream': [['Content-Type', 'text/event-stream; charset=utf-8']],
  'another answer that the API does not want to be held back': [
    ['Content-Type', 'application/x-ndjson'],
    ['X-Accel-Buffering', 'no'],
  ],
};
for (const [name, headers] of Object.entries(streams)) {
  it(`W3 nginx passes ${name} on as it comes`, async () => {
    const gate = createGate();
    world.upstream.respond = reply({
      headers,
      body: (async function* () {
        yield 'data: first\n\n';
        await gate.opened;
        yield 'data: last\n\n';
      })(),
    });
    const stream = await browser.open('/api/orders/1');
    await stream.readUntil((text) => text.includes('first'));
    gate.open();
    await stream.readUntil((text) => text.includes('last'));
    expect(await stream.ended).toBe('complete');
  });
}
