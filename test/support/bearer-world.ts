import { assertNoSecrets } from './canary.ts';
import { reply } from './echo-upstream/answers.ts';
import { type EvilProvider, startEvilProvider } from './evil-provider.ts';
import { type IntrospectionServer, startIntrospectionServer } from './introspection-server.ts';
import { rawRequest } from './raw-client.ts';
import { startTimedWorld } from './timed-world.ts';
import type { ConfigData, World } from './world.ts';

export interface Called {
  status: number;
  /** `code` of the problem; undefined for an upstream's own answer. */
  code: string | undefined;
  header(name: string): string | undefined;
  body: string;
}

/** A world whose APIs accept tokens of three issuers: the login's own, another one, and one with opaque tokens. */
export interface BearerWorld extends World {
  /** Issuer of the apps that are no browsers. */
  mobile: EvilProvider;
  opaque: IntrospectionServer;
  /** Sends a request with these header lines besides Host. */
  send(target: string, lines?: string[], method?: string): Promise<Called>;
  /** Calls with a token. */
  call(token: string, target?: string, lines?: string[]): Promise<Called>;
  /** `Authorization` lines that arrived at the upstream. */
  arrived(): (string | undefined)[];
  /** Forgets what upstream and issuers saw, and their faults. */
  fresh(): void;
}

export interface BearerWorldOptions {
  config?: (data: ConfigData) => void;
  /** The other issuer can't be reached when Cloakroom starts. */
  isMobileDown?: boolean;
}

/** On one clock that is moved by hand: Cloakroom's and that of all three issuers. */
export async function startBearerWorld(options: BearerWorldOptions = {}): Promise<BearerWorld> {
  let started: World | undefined;
  const now = () => started?.clock.now() ?? Date.now();
  const mobile = await startEvilProvider({ now });
  const opaque = await startIntrospectionServer(now);
  if (options.isMobileDown === true) await mobile.down();
  const world = await startTimedWorld({
    config(data) {
      const { upstream } = data.apis.orders;
      const accept = ['session', 'bearer'];
      data.bearerIssuers = {
        own: { issuer: data.authorizationServer.issuer, audiences: ['api', 'urn:shop:orders'], timeout: '2s' },
        mobile: { issuer: mobile.issuer, audiences: ['api', 'urn:shop:orders'], timeout: '2s' },
        opaque: {
          issuer: opaque.issuer,
          audiences: ['api'],
          timeout: '1s',
          introspection: { clientId: opaque.clientId, clientSecret: opaque.clientSecret },
        },
      };
      Object.assign(data.apis, {
        both: { path: '/api/both', upstream, accept },
        programs: { path: '/api/programs', upstream, accept: ['bearer'] },
        named: { path: '/api/named', upstream, accept, resource: 'urn:shop:orders' },
        checked: { path: '/api/checked', upstream, accept, token: 'none', require: {} },
        admin: { path: '/api/admin', upstream, accept, require: { roles: ['admin'] } },
        scoped: { path: '/api/scoped', upstream, accept, require: { scopes: ['orders:write'] } },
        public: { path: '/api/public', upstream, token: 'none' },
      });
      options.config?.(data);
    },
  });
  started = world;
  const answers: { name: string; text: string }[] = [];

  const send = async (target: string, lines: string[] = [], method = 'GET'): Promise<Called> => {
    const head = [`${method} ${target} HTTP/1.1`, `Host: localhost:${world.port}`, ...lines, '', ''].join('\r\n');
    const { status, headers, body, text } = await rawRequest(world.port, head, { timeoutMs: 15_000 });
    world.alsoSearch(`answer of ${method} ${target}`, text);
    answers.push({ name: `answer of ${method} ${target}`, text });
    const find = (name: string) => headers.find(([each]) => each.toLowerCase() === name)?.[1];
    const isProblem = find('content-type')?.startsWith('application/problem+json') === true;
    return {
      status,
      code: isProblem ? (JSON.parse(body) as { code: string }).code : undefined,
      header: find,
      body,
    };
  };

  return Object.assign(world, {
    mobile,
    opaque,
    send,
    call: (token: string, target = '/api/both/1', lines: string[] = []) =>
      send(target, [`Authorization: Bearer ${token}`, ...lines]),
    arrived: () => world.upstream.requests.map((request) => request.header('authorization')),
    fresh() {
      world.upstream.reset();
      world.upstream.respond = reply({ body: { ok: true } });
      for (const provider of [mobile, world.provider]) {
        provider.faults = {};
        provider.requests.length = 0;
      }
      opaque.reset();
    },
    stop: stopAnd(world, async () => {
      const metrics = await world.app.ops.inject('/metrics').catch(() => ({ body: '' }));
      await Promise.all([mobile.stop().catch(() => undefined), opaque.stop().catch(() => undefined)]);
      const secrets = [...mobile.issuedSecrets(), ...opaque.tokens, opaque.clientSecret].filter(
        (secret) => secret.length >= 8,
      );
      assertNoSecrets({
        secrets,
        haystacks: [{ name: 'log', text: world.log.text() }, { name: 'metrics', text: metrics.body }, ...answers],
      });
    }),
  });
}

function stopAnd(world: World, then: () => Promise<void>): () => Promise<void> {
  const stop = world.stop.bind(world);
  return async () => {
    await then();
    await stop();
  };
}
