import cluster from 'node:cluster';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { createWorkerMetrics } from './worker-metrics.ts';

const seconds = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** Counts one more. */
export type Count = () => void;

/**
 * Every metric of the product, behind one module. Labels are names from the configuration and members of closed
 * unions: nothing that a request brings can become a label (OP6).
 */
export function createMetrics(options: { withProcess?: boolean } = {}) {
  const registry = new Registry();
  const render = cluster.isWorker ? createWorkerMetrics(registry) : () => registry.metrics();
  const registers = [registry];
  if (options.withProcess === true) collectDefaultMetrics({ register: registry });
  const counter = <Label extends string>(name: string, help: string, labelNames: Label[]) =>
    new Counter({ name: `cloakroom_${name}`, help, labelNames, registers });

  /**
   * A counter for what every call does: counts are added up here until somebody asks, because prom-client takes the
   * labels of each count apart anew.
   */
  const frequent = <Label extends string>(name: string, help: string, labelNames: Label[]) => {
    const counted: { labels: Record<Label, string>; count: number }[] = [];
    new Counter({
      name: `cloakroom_${name}`,
      help,
      labelNames,
      registers,
      collect() {
        for (const one of counted) {
          if (one.count > 0) this.inc(one.labels, one.count);
          one.count = 0;
        }
      },
    });
    return (labels: Record<Label, string>): Count => {
      const one = { labels, count: 0 };
      counted.push(one);
      return () => void one.count++;
    };
  };

  return {
    requests: new Histogram({
      name: 'cloakroom_request_seconds',
      help: 'Requests by route kind, API and status class: how long until the last byte.',
      labelNames: ['frontend', 'api', 'status'],
      buckets: seconds,
      registers,
    }),
    problems: counter('problems_total', 'Answers that Cloakroom itself refused or failed with, by error code.', [
      'code',
    ]),
    connectionRefusals: counter(
      'connections_refused_total',
      'Connections that were closed without an answer, by limit: connections, address, pipelining.',
      ['limit'],
    ),
    logins: counter('logins_total', 'Finished callbacks by outcome.', ['frontend', 'outcome']),
    loginStarts: counter('login_starts_total', 'Login starts by outcome.', ['frontend', 'outcome']),
    refreshes: counter('refreshes_total', 'Refresh grants by outcome.', ['frontend', 'outcome']),
    accessTokens: frequent('access_tokens_total', 'Answers of the access-token lookup for API calls.', [
      'frontend',
      'outcome',
    ]),
    logouts: counter('logouts_total', 'Ended sessions by kind of logout.', ['frontend', 'kind']),
    revocations: counter('revocations_total', 'Token revocations by outcome.', ['frontend', 'outcome']),
    csrfRejections: counter('csrf_rejections_total', 'Requests refused by the CSRF defence, by reason.', [
      'frontend',
      'reason',
    ]),
    policyDenials: counter('policy_denials_total', 'Requests refused by policy.', ['frontend', 'api']),
    stepUps: counter(
      'step_ups_total',
      'Calls that need a stronger or more recent login, by who says so: required, failed (it did not help), impossible.',
      ['frontend', 'api', 'by', 'outcome'],
    ),
    upstreams: frequent('upstream_responses_total', 'Outcomes of forwarding, by target.', [
      'frontend',
      'api',
      'target',
      'outcome',
    ]),
    upstreamUp: new Gauge({
      name: 'cloakroom_upstream_up',
      help: '1 while requests are sent to this target of an API; 0 while it is left out.',
      labelNames: ['frontend', 'api', 'target'],
      registers,
    }),
    upstreamCircuitOpen: new Gauge({
      name: 'cloakroom_upstream_circuit_open',
      help: '1 while this target is left out because it did not answer several times in a row.',
      labelNames: ['frontend', 'api', 'target'],
      registers,
    }),
    bearerTokens: counter('bearer_tokens_total', 'Access tokens that callers brought, by issuer and outcome.', [
      'frontend',
      'issuer',
      'outcome',
    ]),
    webSockets: new Gauge({
      name: 'cloakroom_websockets',
      help: 'WebSockets that are open.',
      labelNames: ['frontend', 'api'],
      registers,
    }),
    webSocketRefusals: counter('websocket_refusals_total', 'WebSocket handshakes that got no 101, by status.', [
      'frontend',
      'api',
      'status',
    ]),
    webSocketsClosed: counter('websockets_closed_total', 'WebSockets that were open, by who or what closed them.', [
      'frontend',
      'api',
      'by',
    ]),
    storeUp: new Gauge({ name: 'cloakroom_store_up', help: '1 while the session store answers.', registers }),
    storeCircuitOpen: new Gauge({
      name: 'cloakroom_store_circuit_open',
      help: '1 while requests are refused without asking Redis, because it did not answer several times in a row.',
      registers,
    }),
    authorizationServerUp: new Gauge({
      name: 'cloakroom_authorization_server_up',
      help: '1 while the metadata of the authorization server is known.',
      labelNames: ['frontend'],
      registers,
    }),
    contentType: registry.contentType,
    render,
  };
}

export type Metrics = ReturnType<typeof createMetrics>;
