import { type buildConnector, Client } from 'undici';
import { withAbsoluteForm } from '../outbound/absolute-form.ts';
import { isOwnShortage } from '../outbound/connect-failure.ts';
import type { ForwardProxies } from '../outbound/forward-proxy.ts';

export interface HealthCheckOptions {
  origin: string;
  connector: buildConnector.connector;
  proxies: ForwardProxies | undefined;
  path: string;
  /** Milliseconds from one check's end to the next one's start. */
  interval: number;
  /** Milliseconds for all of it: connection, headers. */
  timeout: number;
  unhealthyAfter: number;
  healthyAfter: number;
  /** `reason`: a status, or an error's code. */
  onChange(isHealthy: boolean, reason: string): void;
}

/** Nobody reads more of a health check's answer than keeps the server from seeing a broken pipe. */
const mostBytes = 16 * 1024;

/**
 * Asks a target again and again whether it can do its work: 2xx is yes. On a connection of its own each time, so that
 * neither a full pool nor an old connection answers for it. It carries no token and no cookie.
 */
export function startHealthCheck(options: HealthCheckOptions): { stop(): Promise<void> } {
  const { origin, connector, proxies, path, interval, timeout, unhealthyAfter, healthyAfter, onChange } = options;
  const client = new Client(origin, { allowH2: false, connect: connector, maxHeaderSize: 32 * 1024 });
  const dispatcher = withAbsoluteForm(client, proxies);
  const stopping = new AbortController();
  let isHealthy = true;
  let against = 0; // results in a row that speak against the present state
  let timer: NodeJS.Timeout | undefined;

  const ask = async (): Promise<string | undefined> => {
    const signal = AbortSignal.any([stopping.signal, AbortSignal.timeout(timeout)]);
    try {
      const headers = { 'user-agent': 'cloakroom-health', accept: '*/*' };
      const { statusCode, body } = await dispatcher.request({ path, method: 'GET', headers, signal, reset: true });
      body.on('error', () => undefined); // it is cut off by us
      body.dump({ limit: mostBytes, signal }).catch(() => undefined);
      return statusCode >= 200 && statusCode < 300 ? undefined : String(statusCode);
    } catch (error) {
      return signal.aborted ? 'timeout' : error instanceof Error && 'code' in error ? String(error.code) : 'no answer';
    }
  };
  const check = async () => {
    const fault = await ask();
    if (stopping.signal.aborted) return;
    if (fault !== undefined && isOwnShortage(fault)) return later(interval); // it was not asked
    against = (fault === undefined) === isHealthy ? 0 : against + 1;
    if (against >= (isHealthy ? unhealthyAfter : healthyAfter)) {
      isHealthy = !isHealthy;
      against = 0;
      onChange(isHealthy, fault ?? 'passes');
    }
    later(interval);
  };
  const later = (ms: number) => {
    // A tenth more or less: many replicas ask the same target.
    timer = setTimeout(() => void check(), ms * (0.9 + Math.random() / 5)).unref();
  };
  later(0);

  return {
    async stop() {
      stopping.abort();
      clearTimeout(timer);
      await client.destroy();
    },
  };
}
