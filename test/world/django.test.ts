import { afterAll, beforeAll, it } from 'vitest';
import { freePort } from '../support/redis.ts';
import { playable, scenarios } from './scenarios/all.ts';
import { startDjangoServer } from './support/django-server.ts';
import { openRealWorld, type RealWorld } from './support/real-world.ts';

// django-oauth-toolkit, as it comes from PyPI.

let world: RealWorld;
beforeAll(async () => {
  const [port, relayPort] = [await freePort(), await freePort()];
  const origin = `http://localhost:${port}`;
  const server = await startDjangoServer(relayPort);
  const client = await server.addApp(origin);
  world = await openRealWorld({
    server,
    origin,
    client,
    config: (upstream, files) => ({
      publicUrl: origin,
      files,
      authorizationServer: {
        issuer: server.issuer,
        ...client,
        scopes: ['openid', 'profile', 'email'],
        clockTolerance: '0s',
      },
      apis: {
        orders: {
          path: '/api/orders',
          upstream,
          require: { roles: ['clerk'] },
          routes: [{ path: '/*/refund', methods: ['POST'], require: { maxAge: '10s' } }],
        },
      },
    }),
  });
});
afterAll(() => world?.stop());

for (const name of playable('django')) it(name, () => scenarios[name](world));
