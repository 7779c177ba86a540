import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parse } from 'yaml';
import { freePort } from '../support/redis.ts';
import { keycloakLogouts } from './scenarios/keycloak-logout.ts';
import { playedBy } from './scenarios/played.ts';
import { type KeycloakServer, startKeycloakServer } from './support/keycloak-server.ts';
import { openRealWorld, type RealWorld } from './support/real-world.ts';

// Keycloak with the two files that a newcomer starts from (W47): both as they are, but for addresses.

const root = resolve(import.meta.dirname, '../..');

async function readHere(file: string, addresses: Record<string, string>): Promise<string> {
  const text = await readFile(join(root, file), 'utf8');
  return Object.entries(addresses).reduce((changed, [there, here]) => changed.replaceAll(there, here), text);
}

let world: RealWorld<KeycloakServer>;
beforeAll(async () => {
  const [port, relayPort] = [await freePort(), await freePort()];
  const origin = `http://localhost:${port}`;
  const realm = await readHere('deploy/keycloak/realm.json', { 'https://shop.example.com': origin });
  const server = await startKeycloakServer(realm, relayPort);
  const file = await readHere('config/keycloak.yaml', {
    'https://shop.example.com': origin,
    'https://id.example.com': server.relay.url,
  });
  world = await openRealWorld({
    server,
    origin,
    client: await server.clientOf('cloakroom'),
    config: (apiUrl, files) =>
      parse(file.replaceAll(/http:\/\/(orders|catalog):8080/g, apiUrl).replace('/srv/app', files)),
  });
});
afterAll(() => world?.stop());

const authorizationEndpoint = () => `${world.server.issuer}/protocol/openid-connect/auth`;

it('W47 alice of the realm file logs in, and her request was pushed: nothing of it is in the address', async () => {
  const browser = await world.loggedIn({ username: 'alice', password: 'alice' });
  const request = browser.history.find(({ url }) => url.startsWith(`${authorizationEndpoint()}?`));
  expect([...new URL(request?.url as string).searchParams.keys()].toSorted()).toEqual(['client_id', 'request_uri']);
  expect((await browser.fetch('/api/orders/1')).status).toBe(200);
});

it('a login without PKCE is refused by the realm', async () => {
  const parameters = { client_id: 'cloakroom', response_type: 'code', scope: 'openid' };
  const query = new URLSearchParams({ ...parameters, redirect_uri: `${world.shop.origin}/bff/callback` });
  const answer = await world.browser().navigate(`${authorizationEndpoint()}?${query}`, { followRedirects: false });
  expect(answer.header('location')).toMatch(/[?&]error=invalid_request&.*code_challenge_method/);
});

for (const [name, play] of playedBy('keycloak')) it(name, () => play(world));

for (const [name, play] of Object.entries(keycloakLogouts)) it(name, () => play(world));
