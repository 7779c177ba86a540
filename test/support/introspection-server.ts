import { randomBytes } from 'node:crypto';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What it was asked. */
export interface IntrospectionRequest {
  method: string;
  path: string;
  authorization: string | undefined;
  contentType: string | undefined;
  token: string | null;
  hint: string | null;
}

/** An authorization server with opaque tokens: metadata and RFC 7662, over real HTTP. */
export interface IntrospectionServer {
  issuer: string;
  endpoint: string;
  clientId: string;
  clientSecret: string;
  /** All but those for metadata. */
  requests: IntrospectionRequest[];
  metadataRequests: number;
  /**
   * Makes a token that is active with these claims; `aud`, `sub`, `client_id` and `exp` unless they say otherwise. Or
   * says them about a token that is there already.
   */
  issue(claims?: Record<string, unknown>, token?: string): string;
  /** Every token that was issued. */
  tokens: string[];
  revoke(token: string): void;
  /** Writes each answer in place of the regular one. */
  respond: ((response: ServerResponse, token: string) => void) | undefined;
  down(): Promise<void>;
  up(): Promise<void>;
  /** Regular answers, an empty log. */
  reset(): void;
  stop(): Promise<void>;
}

export async function startIntrospectionServer(now: () => number = Date.now): Promise<IntrospectionServer> {
  const clientId = 'resource server: +%';
  const clientSecret = `introspection-secret-${randomBytes(18).toString('base64url')}+/=`;
  const active = new Map<string, Record<string, unknown>>();

  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const path = request.url ?? '';
    if (path === '/.well-known/openid-configuration') {
      one.metadataRequests++;
      return sendJson(response, 200, { issuer: one.issuer, introspection_endpoint: one.endpoint });
    }
    const form = new URLSearchParams(body);
    const token = form.get('token');
    const { authorization, 'content-type': contentType } = request.headers;
    one.requests.push({
      method: request.method ?? '',
      path,
      authorization,
      contentType,
      token,
      hint: form.get('token_type_hint'),
    });
    if (one.respond !== undefined) return one.respond(response, token ?? '');
    if (!isClient(authorization, clientId, clientSecret)) return sendJson(response, 401, { error: 'invalid_client' });
    const claims = active.get(token ?? '');
    return sendJson(response, 200, claims === undefined ? { active: false } : { active: true, ...claims });
  });
  const listen = (port: number) => new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  await listen(0);
  const { port } = server.address() as AddressInfo;
  const issuer = `http://127.0.0.1:${port}`;
  const down = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });

  const one: IntrospectionServer = {
    issuer,
    endpoint: `${issuer}/introspect`,
    clientId,
    clientSecret,
    requests: [],
    metadataRequests: 0,
    tokens: [],
    issue(claims = {}, token = `opaque-${randomBytes(24).toString('base64url')}`) {
      const exp = Math.floor(now() / 1000) + 300;
      active.set(token, { aud: 'api', sub: 'opaque-user', client_id: 'opaque-app', exp, ...claims });
      one.tokens.push(token);
      return token;
    },
    revoke(token) {
      active.delete(token);
    },
    respond: undefined,
    down,
    up: () => listen(port),
    reset() {
      one.requests.length = 0;
      one.respond = undefined;
    },
    stop: down,
  };
  return one;
}

export function sendJson(response: ServerResponse, status: number, json: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' });
  response.end(JSON.stringify(json));
}

/** Both parts of HTTP Basic are form-encoded (RFC 6749 §2.3.1). */
function isClient(authorization: string | undefined, clientId: string, clientSecret: string): boolean {
  const [, encoded = ''] = /^Basic (.+)$/.exec(authorization ?? '') ?? [];
  const parts = Buffer.from(encoded, 'base64').toString().split(':');
  const [id, secret] = parts.map((part) => new URLSearchParams(`part=${part}`).get('part'));
  return parts.length === 2 && id === clientId && secret === clientSecret;
}
