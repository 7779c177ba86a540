import { generateKeyPairSync, type KeyObject, randomUUID, sign as signBytes } from 'node:crypto';

interface KeyPair {
  publicKey: KeyObject;
  privateKey: KeyObject;
}

type Jwk = Record<string, unknown>;

export interface SuiteKeys {
  jwks: { keys: Jwk[] };
  /** A JWS in compact form, with the `kid` of the signing key where it has one and no `typ`. */
  sign(algorithm: 'RS256' | 'ES256' | 'none', claims: object): string;
}

export interface SuiteKeyOptions {
  /** Signing keys of each type: RSA, P-256, and half as many (at least one) of secp256k1 and Ed25519; 2. */
  perType?: number;
  /** False: the signing keys have no `kid`. */
  isNamed?: boolean;
  /** Keys that nobody can use stand first. */
  withUnusable?: boolean;
}

/** RSA keys take long to make. Key sets take them from here in turn, so that neighbours have none in common. */
const pool: KeyPair[] = [];
const poolSize = 9;
let taken = 0;

function nextRsa(): KeyPair {
  const index = taken++ % poolSize;
  pool[index] ??= generateKeyPairSync('rsa', { modulusLength: 2048 });
  return pool[index];
}

/**
 * A new key set as the suite makes one: signing keys without `alg`, among them curves that hardly anybody verifies, and
 * keys for encryption.
 */
export function createSuiteKeys({
  perType = 2,
  isNamed = true,
  withUnusable = false,
}: SuiteKeyOptions = {}): SuiteKeys {
  const make = (count: number, pair: () => KeyPair) => Array.from({ length: count }, pair);
  const few = Math.max(1, perType - 1);
  const rsa = make(perType, nextRsa);
  const elliptic = make(perType, () => generateKeyPairSync('ec', { namedCurve: 'P-256' }));
  const rare = [
    ...make(few, () => generateKeyPairSync('ec', { namedCurve: 'secp256k1' })),
    ...make(few, () => generateKeyPairSync('ed25519')),
  ];
  const kids = new Map([...rsa, ...elliptic, ...rare].map((pair) => [pair, isNamed ? randomUUID() : undefined]));
  const publicJwk = ({ publicKey }: KeyPair, more: Jwk): Jwk => ({ ...publicKey.export({ format: 'jwk' }), ...more });
  const keys = [...kids].map(([pair, kid]) => publicJwk(pair, { use: 'sig', ...(kid === undefined ? {} : { kid }) }));
  keys.push(
    publicJwk(nextRsa(), { use: 'enc', alg: 'RSA-OAEP', kid: randomUUID() }),
    publicJwk(generateKeyPairSync('ec', { namedCurve: 'P-256' }), { use: 'enc', alg: 'ECDH-ES', kid: randomUUID() }),
  );
  if (withUnusable) keys.unshift(...unusable);

  return {
    jwks: { keys },
    sign(algorithm, claims) {
      // Not the first of several without a name: whoever takes the first that fits must be seen.
      const pair = (algorithm === 'ES256' ? elliptic : rsa)[isNamed ? 0 : few - 1] as KeyPair;
      const kid = kids.get(pair);
      const header = { ...(kid === undefined || algorithm === 'none' ? {} : { kid }), alg: algorithm };
      const input = [header, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.');
      if (algorithm === 'none') return `${input}.`;
      const key = { key: pair.privateKey, dsaEncoding: 'ieee-p1363' as const };
      return `${input}.${signBytes('sha256', Buffer.from(input), key).toString('base64url')}`;
    },
  };
}

const unusable: Jwk[] = [
  { kty: 'AKP', alg: 'ML-DSA-9999', kid: 'unusable-1', use: 'sig', pub: 'bm8gc3VjaCBrZXk' },
  { kty: 'NO-SUCH-TYPE', alg: 'NO-SUCH-ALG', kid: 'unusable-2', use: 'sig' },
];
