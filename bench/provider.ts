import { generateKeyPairSync, randomUUID } from 'node:crypto';
import type { JWKS } from 'oidc-provider';
import { type RunningProvider, startProvider } from '../demo/provider.ts';

export interface BenchProvider extends RunningProvider {
  /** Refresh grants until now. */
  refreshes(): number;
}

export interface BenchClient {
  id: string;
  secret: string;
}

/** The OpenID provider of the demo, oidc-provider, which knows a client that may run on any of these ports. */
export async function openProvider(client: BenchClient, ports: number[], tokenSeconds: number): Promise<BenchProvider> {
  let refreshes = 0;
  const provider = await startProvider({
    port: 0,
    accessTokenTtlSeconds: tokenSeconds,
    clients: [
      {
        client_id: client.id,
        client_secret: client.secret,
        token_endpoint_auth_method: 'client_secret_basic',
        redirect_uris: ports.flatMap((port) => [
          `http://localhost:${port}/bff/callback`,
          `http://localhost:${port}/oidc/callback`,
        ]),
      },
    ],
    resources: [longResource],
    jwks: rsaKey(),
    onTokenRequest({ grantType }) {
      if (grantType === 'refresh_token') refreshes++;
    },
  });
  return { ...provider, refreshes: () => refreshes };
}

/** Makes access tokens as long as those of a real provider with ids of groups in them: about 1.5 KB. */
const longResource = `urn:bench:orders:${Array.from({ length: 15 }, () => randomUUID()).join(':')}`;

/** RS256, as most providers sign: longer tokens than ES256 makes. */
function rsaKey(): JWKS {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { keys: [{ ...privateKey.export({ format: 'jwk' }), alg: 'RS256', use: 'sig', kid: 'bench' }] } as JWKS;
}
