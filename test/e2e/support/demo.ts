import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { startApi } from '../../../demo/api.ts';
import { type RunningProvider, startProvider } from '../../../demo/provider.ts';
import { createApp } from '../../../src/app.ts';
import { formatProblem, parseConfig } from '../../../src/config/load.ts';
import { createLogSink, type LogSink } from '../../support/log-sink.ts';
import { freePort } from '../../support/redis.ts';

/** The whole demo as `npm run demo` starts it, on ports of its own and in this process. */
export interface Demo {
  /** Cloakroom, on the host name localhost. */
  origin: string;
  /** The OpenID provider, on 127.0.0.1: another site to the browser, as in production. */
  issuer: string;
  provider: RunningProvider;
  log: LogSink;
  /** Every access, refresh and ID token that the provider handed to Cloakroom so far. */
  tokens: string[];
  /** Bearer tokens as they arrived at the two APIs. */
  bearers: string[];
  stop(): Promise<void>;
}

/** Starts provider, APIs and Cloakroom with `config/demo.yaml`, in which nothing but the ports differs. */
export async function startDemo(): Promise<Demo> {
  const port = await freePort();
  const origin = `http://localhost:${port}`;
  const provider = await startProvider({ port: 0, publicUrl: origin });
  const tokens: string[] = [];
  provider.oidc.on('grant.success', ({ body }) => {
    for (const [name, value] of Object.entries(body as Record<string, unknown>)) {
      if (/_token$/.test(name) && typeof value === 'string') tokens.push(value);
    }
  });

  const bearers: string[] = [];
  const { issuer } = provider;
  const onRequest = ({ headers }: { headers: { authorization?: string | undefined } }) => {
    const [, bearer] = /^Bearer (.+)$/.exec(headers.authorization ?? '') ?? [];
    if (bearer !== undefined) bearers.push(bearer);
  };
  const [orders, catalog] = await Promise.all([
    startApi({ name: 'orders', issuer, onRequest }),
    startApi({ name: 'catalog', issuer, onRequest }),
  ]);

  const log = createLogSink();
  const text = readFileSync('config/demo.yaml', 'utf8')
    .replaceAll('localhost:8080', `localhost:${port}`)
    .replaceAll('port: 8080', `port: ${port}`)
    .replaceAll('127.0.0.1:9000', `127.0.0.1:${provider.port}`)
    .replaceAll('127.0.0.1:9001', `127.0.0.1:${orders.port}`)
    .replaceAll('127.0.0.1:9002', `127.0.0.1:${catalog.port}`);
  const env = { DEMO_LISTEN_HOST: '127.0.0.1', DEMO_KEY: randomBytes(32).toString('base64url') };
  const parsed = parseConfig('config/demo.yaml', text, env);
  if (!parsed.ok) throw new Error(parsed.problems.map(formatProblem).join('\n'));
  const app = await createApp(parsed.config, { logStream: log.stream });
  await app.server.listen(parsed.config.listen);

  return {
    origin,
    issuer,
    provider,
    log,
    tokens,
    bearers,
    async stop() {
      await app.close();
      await Promise.all([orders.close(), catalog.close(), provider.close()]);
    },
  };
}
