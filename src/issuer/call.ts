import { Agent } from 'undici';
import { withAbsoluteForm } from '../outbound/absolute-form.ts';
import { isConnectFailure } from '../outbound/connect-failure.ts';
import { createConnector } from '../outbound/connector.ts';
import type { ForwardProxies } from '../outbound/forward-proxy.ts';
import { readCertificates } from '../outbound/pem.ts';
import { hideSecrets, normalizeAnswer } from './answer.ts';

/** A call to the authorization server brought no response. */
export class CallFailedError extends Error {
  override readonly name = 'CallFailedError';
  /** False when the connection failed first: then the server has certainly not seen the request. */
  readonly wasSent: boolean;
  /** Nothing came within the time that it had. */
  readonly isTimeout: boolean;
  constructor(code: string, wasSent: boolean, cause: unknown) {
    super(`authorization server: ${code}`, { cause });
    this.wasSent = wasSent;
    this.isTimeout = code === 'timeout' || /_TIMEOUT$/.test(code);
  }
}

/** The largest body of any answer; a token response or metadata has a few KiB (OP4, T34). */
const maximumResponseBytes = 1024 * 1024;

export interface CallOptions {
  body?: unknown;
  headers?: Record<string, string>;
  method?: string;
  signal?: AbortSignal | undefined;
  /** Instead of the caller's own. Milliseconds. */
  timeoutMs?: number;
  /** Told the status as soon as it is there: what follows may still get lost. */
  onStatus?: (status: number) => void;
  /** Told all of the answer, as it is handed on: openid-client keeps back what it refuses. */
  onAnswer?: (text: string) => void;
}

export interface CallerOptions {
  /** PEM file with the CA; the system's CAs when absent. */
  caFile?: string | undefined;
  proxies?: ForwardProxies | undefined;
}

export interface Caller {
  fetch(url: string, options: CallOptions): Promise<Response>;
  close(): Promise<void>;
}

/**
 * Every call to an authorization server passes here: verified TLS, no redirects (a credential must not follow one),
 * a limit on size, and one on the whole time, so that a server that drips bytes can't hold a login (T34).
 */
export function createCaller(usualTimeoutMs: number, { caFile, proxies }: CallerOptions): Caller {
  const agent = new Agent({
    allowH2: false,
    maxResponseSize: maximumResponseBytes,
    headersTimeout: 0, // each call has a deadline of its own
    bodyTimeout: 0,
    connections: 64,
    connect: createConnector({
      timeout: Math.min(usualTimeoutMs, 3000),
      ca: caFile === undefined ? undefined : readCertificates('caFile', caFile),
      proxies,
    }),
  });
  const dispatcher = withAbsoluteForm(agent, proxies);
  return {
    async fetch(url, { body, headers = {}, method = 'GET', signal, timeoutMs = usualTimeoutMs, onStatus, onAnswer }) {
      const deadline = AbortSignal.timeout(timeoutMs);
      const { origin, pathname, search } = new URL(url);
      try {
        const response = await dispatcher.request({
          origin,
          path: `${pathname}${search}`,
          method,
          headers: { ...headers, 'accept-encoding': 'identity' },
          body: body === undefined || body === null ? null : String(body),
          signal: signal ? AbortSignal.any([signal, deadline]) : deadline,
        });
        onStatus?.(response.statusCode);
        const answer = normalizeAnswer(await response.body.text());
        // Some give back what they were sent, in words that are logged (T39).
        if (answer.isError) answer.text = hideSecrets(answer.text, secretsIn(headers, body));
        onAnswer?.(answer.text);
        const init = { status: response.statusCode, headers: plainHeaders(response.headers) };
        // openid-client stops at a challenge, and the error in the body says it more precisely.
        if (answer.isError) init.headers.delete('www-authenticate');
        return new Response(answer.text === '' ? null : Buffer.from(answer.text), init);
      } catch (cause) {
        throw new CallFailedError(codeOf(cause), !isConnectFailure(cause), cause);
      }
    },
    close: () => agent.close(),
  };
}

/** Parameters that are as good as a password, or are one. */
const secretParameters = [
  'client_secret', 'client_assertion', 'code', 'code_verifier', 'refresh_token', 'token', 'subject_token', 'assertion',
]; // biome-ignore format: a list of names reads better in rows

function secretsIn({ authorization = '' }: Record<string, string>, body: unknown): string[] {
  const parameters = new URLSearchParams(body === undefined || body === null ? '' : String(body));
  const [, basic] = /^Basic (.+)$/i.exec(authorization) ?? [];
  const [, token] = /^Bearer (.+)$/i.exec(authorization) ?? [];
  // Both halves are encoded as in a form (RFC 6749 §2.3.1).
  const pair = basic === undefined ? '' : Buffer.from(basic, 'base64').toString();
  const password = new URLSearchParams(`_=${pair.slice(pair.indexOf(':') + 1)}`).get('_') ?? '';
  return [...secretParameters.flatMap((name) => parameters.getAll(name)), password, token ?? ''];
}

function codeOf(error: unknown): string {
  if (error instanceof Error && error.name === 'TimeoutError') return 'timeout';
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'failed';
}

function plainHeaders(headers: Record<string, string | string[] | undefined>): Headers {
  const plain = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    for (const item of Array.isArray(value) ? value : [value]) if (item !== undefined) plain.append(name, item);
  }
  return plain;
}
