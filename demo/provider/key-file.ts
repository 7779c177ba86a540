import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { JWK } from 'jose';
import type { JWKS } from 'oidc-provider';

/** Where `npm run demo` leaves its signing key for `npm run demo:token` while it runs. */
export const DEMO_KEY_FILE = resolve(import.meta.dirname, '../../tmp/demo-signing-key.json');

export interface DemoKey {
  issuer: string;
  /** The private key. Made at every start of the demo, and worth nothing without it. */
  key: JWK & { kid: string; alg: string };
}

/** Is this a provider that only this machine reaches? */
export function isLoopback(issuer: string): boolean {
  return URL.canParse(issuer) && ['127.0.0.1', '[::1]', 'localhost'].includes(new URL(issuer).hostname);
}

/** Writes the key for its owner's eyes only, where a file is named; the result takes it away again. */
export async function writeKeyFile(
  file: string | undefined,
  issuer: string,
  jwks: JWKS,
): Promise<(() => Promise<void>) | undefined> {
  if (file === undefined) return undefined;
  if (!isLoopback(issuer)) throw new Error(`the signing key of ${issuer} stays in its process: it is not on loopback`);
  const [key] = jwks.keys;
  await mkdir(dirname(file), { recursive: true });
  // A file that is there already keeps its mode, and may be a link.
  await rm(file, { force: true });
  await writeFile(file, JSON.stringify({ issuer, key }), { mode: 0o600, flag: 'wx' });
  return () => rm(file, { force: true });
}

export async function readKeyFile(file: string): Promise<DemoKey | undefined> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as DemoKey;
  } catch {
    return undefined;
  }
}
