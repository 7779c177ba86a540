import { constants, createHmac, generateKeyPairSync, type KeyObject, sign as signBytes } from 'node:crypto';
import type { EvilAlgorithm, JwtFault } from './faults.ts';

interface KeyPair {
  kid: string;
  publicKey: KeyObject;
  privateKey: KeyObject;
}

export type Jwk = Record<string, unknown>;

/** The keys of the provider: the right ones and the forger's. */
export interface KeyRing {
  /** The key that signs now. */
  current(): KeyPair;
  /** Signs with a new key from now on; the old one leaves the JWKS unless `keepOld`. `sameKid`: under its name. */
  rotate(options?: Rotation): void;
  /** The public keys, the current one last. The elliptic one is there once `ES256` was asked for. */
  publicKeys(withElliptic: boolean): Jwk[];
  elliptic(): KeyPair;
  /** A key that is in no JWKS. */
  forger(): KeyPair;
}

export interface Rotation {
  keepOld?: boolean;
  sameKid?: boolean;
}

export function createKeyRing(): KeyRing {
  let count = 0;
  const pairs: KeyPair[] = [];
  let elliptic: KeyPair | undefined;
  let forger: KeyPair | undefined;
  const newPair = (): KeyPair => ({ kid: `key-${++count}`, ...generateKeyPairSync('rsa', { modulusLength: 2048 }) });
  const ring: KeyRing = {
    current: () => pairs.at(-1) as KeyPair,
    rotate({ keepOld = false, sameKid = false } = {}) {
      const pair = newPair();
      if (sameKid) pair.kid = ring.current().kid;
      if (!keepOld) pairs.length = 0;
      pairs.push(pair);
    },
    publicKeys(withElliptic) {
      const all = withElliptic ? [ring.elliptic(), ...pairs] : pairs;
      return all.map((pair) => toJwk(pair));
    },
    elliptic() {
      elliptic ??= { kid: 'key-ec', ...generateKeyPairSync('ec', { namedCurve: 'P-256' }) };
      return elliptic;
    },
    forger() {
      forger ??= { ...newPair(), kid: 'key-forger' };
      return forger;
    },
  };
  ring.rotate();
  return ring;
}

export function toJwk({ kid, publicKey }: Pick<KeyPair, 'kid' | 'publicKey'>): Jwk {
  const jwk = publicKey.export({ format: 'jwk' }) as Jwk;
  return { ...jwk, kid, use: 'sig', alg: jwk.kty === 'EC' ? 'ES256' : 'RS256' };
}

export interface SigningInput {
  keys: KeyRing;
  clientSecret: string;
  claims: Record<string, unknown>;
  /** `JWT`, `at+jwt`, `logout+jwt`. */
  typ: string;
  fault?: JwtFault | undefined;
}

/** Makes a JWS by hand: libraries refuse to make most of the bad ones. `undefined` when the fault omits it. */
export function signJwt({ keys, clientSecret, claims, typ, fault = {} }: SigningInput): string | undefined {
  if (fault.omit) return undefined;
  if (fault.raw !== undefined) return fault.raw as string;
  const algorithm = fault.alg ?? 'RS256';
  const kid = algorithm === 'ES256' ? keys.elliptic().kid : keys.current().kid;
  const alg = algorithm === 'forged' ? 'RS256' : algorithm.replace(/-.*/, '');
  const header = override({ alg, typ, kid }, fault.header);
  const payload = fault.payload ?? JSON.stringify(override(claims, fault.claims));
  const input = `${encode(JSON.stringify(header))}.${encode(payload)}`;
  return `${input}.${signature(algorithm, input, keys, clientSecret)}`;
}

function signature(algorithm: EvilAlgorithm, input: string, keys: KeyRing, clientSecret: string): string {
  const data = Buffer.from(input);
  switch (algorithm) {
    case 'none':
      return '';
    case 'HS256-secret':
      return createHmac('sha256', clientSecret).update(data).digest('base64url');
    case 'HS256-public': {
      const pem = keys.current().publicKey.export({ format: 'pem', type: 'spki' });
      return createHmac('sha256', pem).update(data).digest('base64url');
    }
    case 'forged':
      return signBytes('sha256', data, keys.forger().privateKey).toString('base64url');
    case 'ES256':
      return signBytes('sha256', data, { key: keys.elliptic().privateKey, dsaEncoding: 'ieee-p1363' }).toString(
        'base64url',
      );
    case 'PS256': {
      const key = keys.current().privateKey;
      return signBytes('sha256', data, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }).toString(
        'base64url',
      );
    }
    case 'RS256':
      return signBytes('sha256', data, keys.current().privateKey).toString('base64url');
  }
}

function override(regular: Record<string, unknown>, change: JwtFault['claims']): Record<string, unknown> {
  if (typeof change === 'function') return change(regular);
  return { ...regular, ...change };
}

function encode(text: string): string {
  return Buffer.from(text).toString('base64url');
}
