import { createLocalJWKSet, errors, type FlattenedJWSInput, type JSONWebKeySet, type JWTHeaderParameters } from 'jose';
import type { Caller } from './call.ts';
import { KeysUnavailableError } from './faults.ts';

/** A key set is read again after this long, and after an unknown `kid`. Milliseconds. */
const maximumAgeMs = 5 * 60_000;
/** But never more often than this, whoever sends tokens with made-up key ids (CB13, T33). Milliseconds. */
const cooldownMs = 30_000;
/** After a fetch that failed: soon enough that one lost answer does not close the login for long. Milliseconds. */
const pauseAfterFailureMs = 2000;
const maximumBytes = 256 * 1024;
const maximumKeys = 100;

type GetKey = ReturnType<typeof createLocalJWKSet>;

/** The signing keys of an issuer. Keys that a token itself brings or points to (`jwk`, `jku`, `x5u`) are never used. */
export interface KeySet {
  getKey(header: JWTHeaderParameters, token: FlattenedJWSInput): ReturnType<GetKey>;
}

export function createKeySet(caller: Caller, getUri: () => Promise<string>, nowMs: () => number): KeySet {
  let current: { getKey: GetKey; fetchedAt: number } | undefined;
  let nextFetchAt = Number.NEGATIVE_INFINITY;
  let fetching: Promise<void> | undefined;

  const refetch = () => {
    fetching ??= (async () => {
      nextFetchAt = nowMs() + pauseAfterFailureMs;
      current = { getKey: createLocalJWKSet(await fetchKeys(caller, await getUri())), fetchedAt: nowMs() };
      nextFetchAt = nowMs() + cooldownMs;
    })().finally(() => {
      fetching = undefined;
    });
    return fetching;
  };
  const mayFetch = () => fetching !== undefined || nowMs() >= nextFetchAt;

  const find = async (header: JWTHeaderParameters, token: FlattenedJWSInput) => {
    try {
      return await current?.getKey(header, token);
    } catch (error) {
      if (error instanceof errors.JWKSNoMatchingKey) return undefined;
      if (error instanceof errors.JWKSMultipleMatchingKeys) throw new KeysUnavailableError('the key set is ambiguous');
      throw error;
    }
  };

  return {
    async getKey(header, token) {
      if (current === undefined) {
        if (!mayFetch()) throw new KeysUnavailableError('the keys could not be fetched a moment ago');
        await refetch();
      } else if (nowMs() - current.fetchedAt > maximumAgeMs && mayFetch()) {
        await refetch().catch(() => undefined); // the old ones serve until new ones can be had
      }
      const key = await find(header, token);
      if (key !== undefined) return key;
      if (!mayFetch()) throw new KeysUnavailableError('the key id is unknown, and the keys were fetched a moment ago');
      await refetch();
      const fresh = await find(header, token);
      if (fresh === undefined) throw new KeysUnavailableError('the key id is unknown', { isUnknownKey: true });
      return fresh;
    },
  };
}

async function fetchKeys(caller: Caller, uri: string): Promise<JSONWebKeySet> {
  const response = await caller.fetch(uri, { headers: { accept: 'application/json' } });
  const text = await response.text();
  if (response.status !== 200 || text.length > maximumBytes)
    throw new KeysUnavailableError('the key set is not readable');
  let keySet: unknown;
  try {
    keySet = JSON.parse(text);
  } catch (error) {
    throw new KeysUnavailableError('the key set is not JSON', { cause: error });
  }
  const keys = (keySet as { keys?: unknown } | null)?.keys;
  if (!Array.isArray(keys) || keys.length === 0 || keys.length > maximumKeys)
    throw new KeysUnavailableError('the key set has no usable keys');
  // Only public keys sign here: a symmetric key in a public document is no secret.
  const usable = (keys as JSONWebKeySet['keys']).filter((key) => ['RSA', 'EC', 'OKP'].includes(String(key?.kty)));
  return { keys: usable };
}
