import { parseArgs } from 'node:util';
import { importJWK, SignJWT } from 'jose';
import { DEMO_KEY_FILE, type DemoKey, isLoopback, readKeyFile } from './provider/key-file.ts';
import { CATALOG_RESOURCE, ORDERS_RESOURCE } from './provider/resources.ts';

// `npm run demo:token`: an access token for calling the demo's APIs by hand, past Cloakroom. It is signed with the key
// that the demo made when it started, so no other API in the world believes it.

const USAGE = `usage: npm run -s demo:token -- --sub WHO --aud orders|catalog|URI [--role ROLE]... [--ttl 5m]

  --sub   the subject, such as anonymous
  --aud   the API: orders, catalog, or any audience as a URI
  --role  a role; may be repeated (admin, clerk, viewer, reader)
  --ttl   how long it lives: 30s, 5m, 1h at the most; default 5m

The demo must run (npm run demo).`;

const AUDIENCES: Record<string, string> = { orders: ORDERS_RESOURCE, catalog: CATALOG_RESOURCE };
const UNIT_SECONDS: Record<string, number> = { s: 1, m: 60, h: 3600 };
const MAX_TTL_SECONDS = 3600;

interface Wanted {
  sub: string;
  aud: string;
  roles: string[];
  ttlSeconds: number;
}

class Refusal extends Error {
  readonly exitCode: 1 | 2;
  constructor(message: string, exitCode: 1 | 2 = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

try {
  const wanted = readArguments(process.argv.slice(2));
  console.log(await mint(wanted, await findRunningDemo()));
} catch (error) {
  if (!(error instanceof Refusal)) throw error;
  console.error(`demo:token: ${error.message}`);
  process.exitCode = error.exitCode;
}

function readArguments(args: string[]): Wanted {
  let values: { sub?: string; aud?: string; role?: string[]; ttl?: string; help?: boolean };
  try {
    ({ values } = parseArgs({
      args,
      options: {
        sub: { type: 'string' },
        aud: { type: 'string' },
        role: { type: 'string', multiple: true },
        ttl: { type: 'string' },
        help: { type: 'boolean', short: 'h' },
      },
    }));
  } catch (error) {
    throw misuse(error instanceof Error ? (error.message.split('. ')[0] ?? '') : String(error));
  }
  const { sub, aud, role: roles = [], ttl = '5m', help } = values;
  if (help === true) throw misuse('mints an access token for the demo’s APIs');
  if (sub === undefined || sub === '') throw misuse('--sub is missing: who is the token about?');
  if (aud === undefined) throw misuse('--aud is missing: which API is the token for?');
  const audience = AUDIENCES[aud] ?? (URL.canParse(aud) ? aud : undefined);
  if (audience === undefined) throw misuse(`--aud ${aud} is neither orders nor catalog nor a URI`);
  const [, amount, unit = ''] = /^([1-9]\d{0,4})([smh])$/.exec(ttl) ?? [];
  const ttlSeconds = Number(amount) * (UNIT_SECONDS[unit] ?? Number.NaN);
  if (!(ttlSeconds <= MAX_TTL_SECONDS))
    throw misuse(`--ttl ${ttl} is not a time such as 30s or 5m, of an hour at most`);
  return { sub, aud: audience, roles, ttlSeconds };
}

function misuse(message: string): Refusal {
  return new Refusal(`${message}\n\n${USAGE}`, 2);
}

/** The key of the demo that runs on this machine now; anything else is no demo. */
async function findRunningDemo(): Promise<DemoKey> {
  if (process.env.NODE_ENV === 'production')
    throw new Refusal('NODE_ENV is production, and this is for the demo alone: unset it.');
  const demo = await readKeyFile(process.env.DEMO_SIGNING_KEY ?? DEMO_KEY_FILE);
  if (demo === undefined) throw new Refusal('no demo is running here: start it with `npm run demo`.');
  if (!isLoopback(demo.issuer))
    throw new Refusal(`${demo.issuer} is not on loopback, so it is not the demo’s provider: no token is made for it.`);
  const published = await publishedKeyIds(demo.issuer);
  if (!published.includes(demo.key.kid))
    throw new Refusal(
      `the provider at ${demo.issuer} is not the demo that left its key here: start it with \`npm run demo\`.`,
    );
  return demo;
}

async function publishedKeyIds(issuer: string): Promise<string[]> {
  try {
    const response = await fetch(`${issuer}/jwks`, { signal: AbortSignal.timeout(3000), redirect: 'error' });
    const { keys } = (await response.json()) as { keys: { kid: string }[] };
    return keys.map(({ kid }) => kid);
  } catch {
    throw new Refusal(`no demo answers at ${issuer}: start it with \`npm run demo\`.`);
  }
}

async function mint({ sub, aud, roles, ttlSeconds }: Wanted, { issuer, key }: DemoKey): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  return new SignJWT({ roles, client_id: 'demo-token' })
    .setProtectedHeader({ alg: key.alg, kid: key.kid, typ: 'at+jwt' })
    .setIssuer(issuer)
    .setSubject(sub)
    .setAudience(aud)
    .setJti(crypto.randomUUID())
    .setIssuedAt(now)
    .setExpirationTime(now + ttlSeconds)
    .sign(await importJWK(key));
}
