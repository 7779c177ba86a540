import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { buildKeyRing, deriveSessionKeys, hashId } from '../../../src/crypto/keys.ts';
import { Secret } from '../../../src/crypto/secret.ts';
import { createRecordFormat } from '../../../src/session/record-format.ts';
import type { Identity } from '../../../src/session/session.ts';
import { NewerRecordError, recordFormat, type StoredSession } from '../../../src/store/record.ts';
import { parseTokenSet, serializeTokenSet } from '../../../src/tokens/token-set.ts';

// A record as a release wrote it, by `seal` of its own code, with its keys; never changed afterwards (docs/upgrading.md).
interface Fixture {
  release: string;
  serverKey: string;
  frontend: string;
  sessionId: string;
  clientId?: string;
  record: Omit<StoredSession, 'identity' | 'tokens' | 'now'> & { identity: string; tokens: string };
  opened: { identity: Identity; tokens: object };
}

const folder = join(import.meta.dirname, '../../fixtures/records');
const fixtures = readdirSync(folder).map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')) as Fixture);

function prepare({ serverKey, frontend, sessionId, clientId = 'app', record }: Fixture) {
  const keys = buildKeyRing([new Secret(Buffer.from(serverKey, 'base64').toString('base64'))], frontend);
  const stored: StoredSession = {
    ...record,
    now: record.createdAt + 1,
    identity: Buffer.from(record.identity, 'base64url'),
    tokens: Buffer.from(record.tokens, 'base64url'),
  };
  const format = createRecordFormat(keys, { issuer: 'https://id.example.com', clientId });
  return { format, stored, handle: hashId(sessionId), tokenKeys: deriveSessionKeys(keys.tokens, sessionId), keys };
}

describe('records of every release', () => {
  it('are kept, the first of them too', () => {
    expect(fixtures.map(({ release }) => release)).toContain('0.1 (1ced1f0)');
    expect(new Set(fixtures.map(({ record }) => record.format))).toContain(recordFormat);
  });

  it.each(fixtures)('open: $release', (fixture) => {
    const { format, stored, handle, tokenKeys } = prepare(fixture);
    const opened = format.open(handle, tokenKeys, stored);
    expect(opened?.identity).toEqual(fixture.opened.identity);
    expect(JSON.parse(opened?.tokens ?? '')).toEqual(fixture.opened.tokens);
    expect(format.openIdentity(handle, stored)).toEqual(fixture.opened.identity);
  });

  it.each(fixtures)('W6 are nobody’s for another issuer, client, frontend or server key: $release', (fixture) => {
    const { stored, handle, tokenKeys, keys } = prepare(fixture);
    const owner = { issuer: 'https://id.example.com', clientId: fixture.clientId ?? 'app' };
    const others = [createRecordFormat(keys, { ...owner, issuer: 'https://id.example.com/' })];
    // Release 0.1 did not note the client.
    if (fixture.clientId !== undefined) others.push(createRecordFormat(keys, { ...owner, clientId: 'other' }));
    const key = new Secret(Buffer.alloc(32, 7).toString('base64'));
    others.push(createRecordFormat(buildKeyRing([key], fixture.frontend), owner));
    const known = new Secret(Buffer.from(fixture.serverKey, 'base64').toString('base64'));
    others.push(createRecordFormat(buildKeyRing([known], 'admin'), owner));
    for (const other of others) {
      expect(other.open(handle, tokenKeys, stored)).toBeUndefined();
      expect(other.openIdentity(handle, stored)).toBeUndefined();
    }
  });
});

describe('a record', () => {
  const [fixture] = fixtures;
  const { format, handle, tokenKeys } = prepare(fixture as Fixture);
  const content = {
    generation: 3,
    identity: { issuer: 'https://id.example.com', subject: 'alice', claims: { roles: ['user'] } },
    tokens: '{"a":"token","s":"openid","o":100,"e":400}',
    createdAt: 100,
    expiresAt: 1000,
  };
  const write = (change: Partial<typeof content> = {}): StoredSession => {
    const written = { ...content, ...change };
    const { generation, createdAt, expiresAt } = written;
    const times = { format: recordFormat, generation, createdAt, expiresAt, lastSeenAt: 100, now: 200 };
    return { ...times, ...format.seal(handle, tokenKeys, written) };
  };

  it('opens as it was written, with the client noted', () => {
    expect(format.open(handle, tokenKeys, write())).toEqual({
      identity: { ...content.identity, client: 'app' },
      tokens: content.tokens,
    });
  });

  it('W12 does not open with another generation, creation, later end, or identity', () => {
    const stored = write();
    const older = write({ identity: { ...content.identity, claims: { roles: ['user', 'admin'] } } });
    for (const change of [
      { generation: 2 },
      { generation: 4 },
      { createdAt: 99 },
      { createdAt: 101 },
      { expiresAt: 1001 },
      { identity: older.identity },
      { tokens: older.tokens },
    ])
      expect(format.open(handle, tokenKeys, { ...stored, ...change }), JSON.stringify(change)).toBeUndefined();
    // The provider may bring the end nearer, and "last seen" moves with every look.
    expect(format.open(handle, tokenKeys, { ...stored, expiresAt: 900, lastSeenAt: 150, now: 160 })).toBeDefined();
  });

  it('SE10 of a newer release is an error, not an absence; of no release it is absent', () => {
    for (const newer of [recordFormat + 1, 1000])
      expect(() => format.open(handle, tokenKeys, { ...write(), format: newer })).toThrow(NewerRecordError);
    for (const none of [0, -1]) expect(format.open(handle, tokenKeys, { ...write(), format: none })).toBeUndefined();
  });
});

describe('members that a newer release wrote', () => {
  const text = '{"a":"token","s":"openid","o":100,"e":400,"r":"refresh","dpop":{"jkt":"x"},"z":[1]}';

  it('survive being read and written by this one', () => {
    expect(JSON.parse(serializeTokenSet(parseTokenSet(text)))).toEqual(JSON.parse(text));
  });
});
