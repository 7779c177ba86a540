import type { Api, Config, Frontend } from '../config/config.ts';
import type { ForwardProxies } from '../outbound/forward-proxy.ts';
import { loadUpstreamTls } from '../upstream/tls.ts';
import { checkAuthorizationServer } from './authorization-server.ts';
import { checkBearerIssuer } from './bearer-issuer.ts';
import { pathOf } from './files.ts';
import type { Finding, Report } from './finding.ts';
import { checkReach, within } from './reach.ts';
import { checkRedis } from './redis.ts';

/** For one call, and for all that one peer is asked. Milliseconds. */
const callMs = 3000;
const peerMs = 7500;

/** Asks everybody that Cloakroom will talk to, all at the same time and each for a limited time; peer by peer. */
export async function checkConnections(config: Config): Promise<Finding[]> {
  const { redis } = config.session;
  const tasks = [
    ...config.frontends.flatMap((frontend) => tasksOf(frontend, config)),
    ...(redis === undefined
      ? []
      : [{ key: 'session.redis', run: (report: Report) => checkRedis(redis, callMs, report) }]),
  ];
  const found = await Promise.all(tasks.map(runTask));
  return found.flat();
}

interface Task {
  key: string;
  run(report: Report): Promise<unknown>;
}

function tasksOf(frontend: Frontend, { forwardProxies: proxies }: Config): Task[] {
  const at = (...keys: string[]) => [...pathOf(frontend), ...keys].join('.');
  const server = at('authorizationServer');
  const timeout = (own: number) => Math.min(own, callMs);
  return [
    {
      key: server,
      run: (report) =>
        checkAuthorizationServer(frontend, {
          key: server,
          proxies,
          timeout: timeout(frontend.authorizationServer.timeout),
          report,
        }),
    },
    ...frontend.bearerIssuers.map((issuer): Task => {
      const key = at('bearerIssuers', issuer.name);
      return {
        key,
        run: (report) => checkBearerIssuer(issuer, { key, proxies, timeout: timeout(issuer.timeout), report }),
      };
    }),
    ...[...frontend.apis, ...(frontend.devServer === undefined ? [] : [frontend.devServer])].map((api): Task => {
      const key = api === frontend.devServer ? at('devServer') : at('apis', api.name);
      const place = api === frontend.devServer ? key : `${key}.upstream`;
      return { key, run: (report) => checkUpstreams(api, { key, place, proxies, report }) };
    }),
  ];
}

async function runTask({ key, run }: Task): Promise<Finding[]> {
  const findings: Finding[] = [];
  let isOver: boolean = false;
  const report: Report = (finding) => {
    if (!isOver) findings.push(finding);
  };
  await within(peerMs, run(report)).catch((error: unknown) => {
    const isLate = error instanceof Error && error.message === 'timeout';
    const says = isLate ? `not all was answered within ${peerMs / 1000} s` : 'the check itself failed';
    const cure = isLate ? 'look why it is so slow' : 'report it, with this line and the version of Cloakroom';
    report({ status: 'FAIL', key, says: isLate ? says : `${says} (${nameOf(error)})`, cure });
  });
  isOver = true;
  return findings;
}

function nameOf(error: unknown): string {
  return error instanceof Error ? error.name : 'unknown';
}

/** Connects to each target as calls would, and sends nothing. */
async function checkUpstreams(
  api: Api,
  { key, place, proxies, report }: { key: string; place: string; proxies: ForwardProxies; report: Report },
): Promise<void> {
  const secureContext = loadUpstreamTls(api, key, () => undefined);
  const options = { secureContext, timeout: Math.min(api.timeouts.connect, 3000), report };
  const ways = api.forwardProxy ? { proxies } : {};
  const targets = api.upstream.map((target, index) =>
    checkReach({ ...options, ...ways, key: api.upstream.length > 1 ? `${place}.${index}` : place, target }),
  );
  await Promise.all(targets);
}
