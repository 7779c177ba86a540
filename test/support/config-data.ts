import { randomBytes } from 'node:crypto';
import type { EchoUpstream } from './echo-upstream.ts';
import type { EvilProvider } from './evil-provider.ts';

/** A configuration file as data. */
// biome-ignore lint/suspicious/noExplicitAny: tests change any key of a configuration, also to what the schema refuses
export type ConfigData = Record<string, any>;

interface Peers {
  /** Where browsers go; its port may be that of a balancer. */
  origin: string;
  port: number;
  /** Any free one when it is 0. */
  opsPort: number;
  provider: EvilProvider;
  upstream: EchoUpstream;
}

/** What a Cloakroom on loopback needs to know of its peers, and a session key of its own; tests add the rest. */
export function configOf({ origin, port, opsPort, provider, upstream }: Peers): ConfigData {
  return {
    publicUrl: origin,
    listen: { host: '127.0.0.1', port },
    ops: { host: '127.0.0.1', port: opsPort },
    authorizationServer: {
      issuer: provider.issuer,
      clientId: provider.clientId,
      clientSecret: provider.clientSecret,
      scopes: ['openid'],
      timeout: '2s',
      refreshTimeout: '4s',
    },
    session: { keys: [randomBytes(32).toString('base64url')] },
    apis: { orders: { path: '/api/orders', upstream: upstream.url } },
  };
}
