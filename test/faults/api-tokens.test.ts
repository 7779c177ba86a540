import { decodeJwt } from 'jose';
import { expect, it } from 'vitest';
import { type EchoUpstream, startEchoUpstream } from '../support/echo-upstream.ts';
import { observe, statuses } from '../support/fault-table.ts';
import { startFleet } from '../support/fleet.ts';
import type { Answer, Person } from '../support/fleet-client.ts';

const sessions = 50;
const parallel = 200;
const callsOfEach = 200;
/** How each API gets its token, and with which grant. */
const apis = {
  orders: { resource: 'urn:test:orders' },
  catalog: { resource: 'urn:test:catalog' },
  billing: { token: 'exchange', audience: 'urn:test:billing' },
  reports: { token: 'exchange', audience: 'urn:test:reports', scopes: ['reports'] },
};
type Name = keyof typeof apis;
const names = Object.keys(apis) as Name[];

it('T88 DT1 50 sessions × 4 APIs × 200 calls on 2 replicas: to each API only tokens for it and of the right user', {
  timeout: 180_000,
}, async () => {
  const upstreams = {} as Record<Name, EchoUpstream>;
  for (const name of names) {
    upstreams[name] = await startEchoUpstream();
    upstreams[name].respondWith({ body: { ok: true } });
  }
  const fleet = await startFleet({
    replicas: 2,
    provider: { accessTokenFormat: 'jwt', accessTokenSeconds: 3600 },
    config(data) {
      data.apis = Object.fromEntries(
        names.map((name) => [name, { ...apis[name], path: `/api/${name}`, upstream: upstreams[name].url }]),
      );
    },
  });
  try {
    const people: Person[] = [];
    for (let index = 0; index < sessions; index++) people.push(await fleet.login({ replica: index }));

    // Neighbours in this order differ in session, API and replica, so that all of them race.
    const total = sessions * names.length * callsOfEach;
    const answers: Answer[] = [];
    let started = 0;
    const work = async () => {
      while (started < total) {
        const index = started++;
        const person = people[index % sessions] as Person;
        const name = names[Math.floor(index / sessions) % names.length] as Name;
        const { port } = fleet.replica(Math.floor(index / 3));
        answers.push(await fleet.client.send(port, `/api/${name}/${person.sub}`, { cookie: person.cookie }));
      }
    };
    await Promise.all(Array.from({ length: parallel }, work));

    const wrong: string[] = [];
    const tokens = new Map<string, Set<string>>();
    for (const name of names) {
      const api: { resource?: string; audience?: string } = apis[name];
      for (const request of upstreams[name].requests) {
        const bearer = request.header('authorization')?.slice('Bearer '.length) ?? '';
        const { aud, sub } = decodeJwt(bearer);
        const owner = request.target.slice(1);
        if (aud !== (api.resource ?? api.audience) || sub !== owner) wrong.push(`${name} ${owner}: ${sub} ${aud}`);
        const key = `${name} ${owner}`;
        tokens.set(key, (tokens.get(key) ?? new Set()).add(bearer));
      }
    }
    expect(wrong).toEqual([]);
    const grants = fleet.provider
      .tokenRequests()
      .filter(({ params }) => params.get('grant_type') !== 'authorization_code');
    observe({
      scenario: 'T88 a token for each of four APIs',
      did: `${sessions} sessions × ${names.length} APIs × ${callsOfEach} calls, ${parallel} at a time, on 2 replicas`,
      saw: {
        answers: statuses(answers),
        'tokens at the APIs': [...tokens.values()].reduce((sum, { size }) => sum + size, 0),
        'token requests': grants.length,
        reuse: fleet.provider.reuseDetected(),
      },
      expected: {
        answers: { 200: total },
        'tokens at the APIs': sessions * names.length,
        'token requests': sessions * names.length,
        reuse: 0,
      },
    });
  } finally {
    await fleet.stop();
    await Promise.all(names.map((name) => upstreams[name].stop()));
  }
});
