import {
  type CryptoKey,
  createLocalJWKSet,
  errors,
  type FlattenedJWSInput,
  type JSONWebKeySet,
  type JWTHeaderParameters,
  type JWTVerifyOptions,
  type JWTVerifyResult,
  jwtVerify,
} from 'jose';
import { type Caller, CallFailedError } from './call.ts';
import { KeysUnavailableError, sortFault } from './faults.ts';

/** A key set is read again after this long. Milliseconds. */
const maximumAgeMs = 5 * 60_000;
/** For a stranger's key id that is not in it, never sooner than this after the last time (CB13, T33). Milliseconds. */
const cooldownMs = 30_000;
/** After a fetch that failed: soon enough that one lost answer does not close the login for long. Milliseconds. */
const pauseAfterFailureMs = 2000;
/** So many looks that found nothing new are allowed sooner than that, and one more after each `cooldownMs` (W44). */
const spareLooks = 3;
const maximumBytes = 256 * 1024;
const maximumKeys = 100;

/**
 * Who handed us a token. `server`: we fetched it ourselves, over TLS, so the issuer answers for it. `stranger`: it came
 * with a request. What strangers bring must not use up what the tokens of a login need (W44).
 */
export type HandedBy = 'server' | 'stranger';

/** The signing keys of an issuer. Keys that a token itself brings or points to (`jwk`, `jku`, `x5u`) are never used. */
export interface KeySet {
  /**
   * Verifies a JWT as jose does, and throws what jose throws. A key id that is unknown, or a signature that no key
   * verifies, makes the keys be read once more: servers replace keys under the same id, or use none (W20). Where that is
   * not allowed now, or fails, nothing is known about the token: `KeysUnavailableError`, with jose's error for the
   * signature as its cause, or `CallFailedError`.
   */
  verify(jwt: string, options: JWTVerifyOptions, by: HandedBy): Promise<JWTVerifyResult>;
}

type GetKey = ReturnType<typeof createLocalJWKSet>;

/** As they were read. `fetch` numbers the reading, in the order in which they began. */
interface Keys {
  getKey: GetKey;
  readAt: number;
  fetch: number;
}

export function createKeySet(caller: Caller, getUri: () => Promise<string>, nowMs: () => number): KeySet {
  let current: Keys | undefined;
  let begun = 0;
  let fetching: Promise<void> | undefined;
  const pausedUntil = { server: Number.NEGATIVE_INFINITY, stranger: Number.NEGATIVE_INFINITY };
  const spare = { server: createSpareLooks(nowMs), stranger: createSpareLooks(nowMs) };

  const isPaused = (by: HandedBy) => nowMs() < pausedUntil[by];
  const fetchFor = (by: HandedBy) => {
    const fetch = ++begun;
    fetching = (async () => {
      try {
        const getKey = createLocalJWKSet(await readKeys(caller, await getUri()));
        current = { getKey, readAt: nowMs(), fetch };
      } catch (error) {
        pausedUntil[by] = nowMs() + pauseAfterFailureMs;
        if (error instanceof CallFailedError || error instanceof KeysUnavailableError) throw error;
        const fault = sortFault(error);
        throw new KeysUnavailableError('reason' in fault ? fault.reason : fault.kind, { cause: error });
      }
    })().finally(() => {
      fetching = undefined;
    });
    return fetching;
  };
  /** Waits for what was begun for somebody else; whether it went well is seen by what there is afterwards. */
  const join = (other: Promise<void>) => other.catch(() => undefined);

  /** Not older than they may be. The old ones serve until new ones can be had. */
  const usable = async (by: HandedBy): Promise<Keys> => {
    while (current === undefined) {
      if (fetching !== undefined) await join(fetching);
      else if (isPaused(by)) throw new KeysUnavailableError('the keys could not be fetched a moment ago');
      else await fetchFor(by);
    }
    if (nowMs() - current.readAt > maximumAgeMs && !isPaused(by)) await join(fetching ?? fetchFor(by));
    return current;
  };
  /** May the keys be read again now, for a token that those of `readAt` do not verify? */
  const mayLook = ({ readAt }: Keys, by: HandedBy, isUnknown: boolean): boolean => {
    if (isPaused(by)) return false;
    if (by === 'server') return spare.server.take();
    if (nowMs() >= readAt + cooldownMs) return true;
    // A bad signature under a known id is a forgery nearly always, and is worth knowing for sure. Whoever makes up an id
    // says so.
    return !isUnknown && spare.stranger.take();
  };

  return {
    async verify(jwt, options, by) {
      const before = begun;
      let look: number | undefined;
      for (;;) {
        let keys: Keys | undefined;
        try {
          const result = await verifyWith(jwt, options, async () => {
            keys = await usable(by);
            return keys.getKey;
          });
          if (look !== undefined && look === keys?.fetch) spare[by].giveBack();
          return result;
        } catch (error) {
          if (keys === undefined) throw error;
          const isUnknown = error instanceof errors.JWKSNoMatchingKey;
          if (!isUnknown && !(error instanceof errors.JWSSignatureVerificationFailed)) {
            if (look === keys.fetch) spare[by].giveBack();
            throw error;
          }
          // Read for this token: there is nothing more to learn.
          if (keys.fetch > before)
            throw isUnknown ? new KeysUnavailableError('the key id is unknown', { isUnknownKey: true }) : error;
          if (fetching !== undefined) await join(fetching);
          else if (mayLook(keys, by, isUnknown)) {
            look = begun + 1;
            await fetchFor(by);
          } else {
            const what = isUnknown ? 'the key id is unknown' : 'no key verifies the signature';
            throw new KeysUnavailableError(`${what}, and the keys were fetched a moment ago`, { cause: error });
          }
        }
      }
    },
  };
}

/** A few looks ahead of time. One that brought the right key costs nothing, as nobody can cause that but the issuer. */
function createSpareLooks(nowMs: () => number) {
  let left = spareLooks;
  let countedAt = nowMs();
  return {
    take(): boolean {
      const now = nowMs();
      left = Math.min(spareLooks, left + Math.max(0, now - countedAt) / cooldownMs);
      countedAt = now;
      if (left < 1) return false;
      left--;
      return true;
    },
    giveBack() {
      left = Math.min(spareLooks, left + 1);
    },
  };
}

/**
 * With each key that fits by `kid`, `alg`, `kty` and `use` until one verifies: without a `kid` there may be several, and
 * a key that can't be used does not stand in the way of another. Throws `JWKSNoMatchingKey` when there is none.
 */
async function verifyWith(
  jwt: string,
  options: JWTVerifyOptions,
  getKeys: () => Promise<GetKey>,
): Promise<JWTVerifyResult> {
  let fitting: CryptoKey[] | undefined;
  let failure: unknown = new errors.JWKSNoMatchingKey();
  const next = async (header: JWTHeaderParameters, token: FlattenedJWSInput) => {
    fitting ??= await keysFor(await getKeys(), header, token, options.algorithms);
    const key = fitting.shift();
    if (key === undefined) throw failure;
    return key;
  };
  for (;;) {
    try {
      return await jwtVerify(jwt, next, options);
    } catch (error) {
      if (error === failure || fitting === undefined) throw error;
      if (error instanceof errors.JWSSignatureVerificationFailed) failure = error;
      // What jose does not name is a key that it can't use, such as a short one.
      else if (error instanceof errors.JOSEError) throw error;
    }
  }
}

async function keysFor(
  getKey: GetKey,
  header: JWTHeaderParameters,
  token: FlattenedJWSInput,
  algorithms: string[] = [],
): Promise<CryptoKey[]> {
  const { kid, ...withoutKid } = header;
  const hasKid = typeof kid === 'string'; // some write null where they have none
  try {
    return [await getKey(hasKid ? header : withoutKid, token)];
  } catch (error) {
    if (error instanceof errors.JOSENotSupported) throw error;
    const keys: CryptoKey[] = [];
    if (error instanceof errors.JWKSMultipleMatchingKeys) for await (const key of error) keys.push(key);
    // The id is known, and its key signs in another way: as a signature that does not fit.
    if (hasKid && error instanceof errors.JWKSNoMatchingKey) {
      for (const alg of algorithms)
        if (await fits(getKey, { ...header, alg }, token)) throw new errors.JWSSignatureVerificationFailed();
    }
    return keys;
  }
}

function fits(getKey: GetKey, header: JWTHeaderParameters, token: FlattenedJWSInput): Promise<boolean> {
  return getKey(header, token).then(
    () => true,
    (error: unknown) => error instanceof errors.JWKSMultipleMatchingKeys,
  );
}

async function readKeys(caller: Caller, uri: string): Promise<JSONWebKeySet> {
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
  // Only public keys sign here: a symmetric key in a public document is no secret.
  const usable = Array.isArray(keys) ? keys.filter(isPublicKey) : [];
  if (usable.length === 0 || (keys as unknown[]).length > maximumKeys)
    throw new KeysUnavailableError('the key set has no usable keys');
  return { keys: usable };
}

function isPublicKey(key: unknown): key is JSONWebKeySet['keys'][number] {
  if (typeof key !== 'object' || key === null || !('kty' in key) || Object.hasOwn(key, 'd')) return false;
  return ['RSA', 'EC', 'OKP'].includes(String(key.kty));
}
