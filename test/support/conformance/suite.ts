import { createHash, randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createSuiteKeys } from './keys.ts';
import { endSession } from './logout.ts';
import { suiteMetadata } from './metadata.ts';
import type { ConformanceModule, SuiteEndpoint } from './modules.ts';
import { must, type Registration, type Reply, type Run } from './run.ts';
import { claimsOfScope, subject } from './user.ts';

/** A server that speaks like the OpenID Foundation's suite, with one module at a time under one issuer. */
export interface Suite {
  issuer: string;
  clientId: string;
  clientSecret: string;
  /** Every token and code that it gave out. */
  secrets: string[];
  /** The next module takes the place of the one before. */
  begin(module: ConformanceModule, registration: Registration): Run;
  /** What the suite would write beside the module: nothing when it passed. */
  verdict(run: Run): string[];
  stop(): Promise<void>;
}

interface Request {
  method: string;
  path: string;
  query: URLSearchParams;
  form: URLSearchParams;
  authorization: string;
}

export async function startSuite(): Promise<Suite> {
  const [clientId, clientSecret] = ['conformance-client', `secret:+/${randomBytes(18).toString('base64')}`];
  const secrets: string[] = [clientSecret];
  const server = createServer((message, response) => {
    answer(message).then(
      (reply) => send(response, reply),
      (error: unknown) => {
        run?.failures.push(error instanceof Error ? error.message : String(error));
        send(response, { json: { error: 'server_error' }, status: 500 });
      },
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  // As the suite has it: a path, and a slash at its end.
  const base = '/test/a/cloakroom/';
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}${base}`;
  let run: Run | undefined;

  async function answer(message: IncomingMessage): Promise<Reply> {
    const chunks: Buffer[] = [];
    for await (const chunk of message) chunks.push(chunk as Buffer);
    const { pathname, searchParams } = new URL(message.url ?? '/', issuer);
    const request: Request = {
      method: message.method ?? '',
      path: pathname.startsWith(base) ? pathname.slice(base.length) : pathname,
      query: searchParams,
      form: new URLSearchParams(Buffer.concat(chunks).toString()),
      authorization: message.headers.authorization ?? '',
    };
    if (run === undefined) throw new Error('no module is running');
    const current = run;
    const see = (endpoint: SuiteEndpoint) => current.seen.push(endpoint);
    switch (request.path) {
      case '.well-known/openid-configuration': {
        see('discovery');
        const regular = suiteMetadata(issuer, current);
        return { json: current.module.metadata?.(regular) ?? regular };
      }
      case current.jwksPath:
        see('jwks');
        return { json: current.keys.jwks };
      case 'authorize':
        needsDiscovery(current);
        see('authorize');
        return authorize(current, request.method === 'POST' ? request.form : request.query);
      case 'token':
        see('token');
        return token(current, request);
      case 'userinfo':
        if (current.module.hasOwnJwksUri) must(current.seen.includes('jwks'), 'UserInfo was asked before the keys');
        see('userinfo');
        return userinfo(current, request);
      case 'end_session_endpoint':
        see('end_session');
        return endSession(current, request.method === 'POST' ? request.form : request.query, { issuer, clientId });
      default:
        throw new Error(`unexpected call of ${request.path}`);
    }
  }

  function needsDiscovery({ module, seen }: Run): void {
    if (module.hasOwnJwksUri) must(seen.includes('discovery'), 'authorize was called before the metadata were read');
  }

  function authorize(current: Run, parameters: URLSearchParams): Reply {
    const { module, registration } = current;
    const get = (name: string) => parameters.get(name) ?? '';
    must(get('response_type') === 'code', 'response_type is not code');
    must(get('client_id') === clientId, 'client_id is another one');
    must(get('redirect_uri') === registration.redirectUri, 'redirect_uri is not registered');
    must(!parameters.has('request') && !parameters.has('request_uri'), 'there is a request object');
    const scopes = get('scope').split(' ');
    must(scopes.includes('openid'), 'scope has no openid');
    if (module.wantsClaimScope)
      must(/\b(profile|email|phone|address)\b/.test(get('scope')), 'scope asks for no claims');
    must(get('code_challenge_method') === 'S256', 'no PKCE with S256');
    const nonce = get('nonce');
    must(/^[\w.~-]{1,43}$/.test(nonce), 'the nonce has characters or a length that some servers refuse');
    const isFirst = current.idTokens.length === 0;
    if (module.rotates === 'per-login' && !isFirst) current.keys = createSuiteKeys(module.keys);
    current.code = { value: made(), nonce, challenge: get('code_challenge'), scope: get('scope') };
    const answered = new URLSearchParams({
      ...(parameters.has('state') ? { state: get('state') } : {}),
      code: current.code.value,
      ...(module.logout === undefined ? {} : { session_state: `${randomBytes(9).toString('hex')}.salt` }),
    });
    if (registration.responseMode === 'query') return { location: `${registration.redirectUri}?${answered}` };
    const inputs = [...answered].map(([name, value]) => `<input type="hidden" name="${name}" value="${value}">`);
    return {
      html: `<!DOCTYPE html><body onload="submitform()"><form action="${registration.redirectUri}" method="post"
        enctype="application/x-www-form-urlencoded">${inputs.join('')}<input type="submit" value="Click"></form>
        <script>function submitform(){ document.forms[0].submit(); }</script></body>`,
    };
  }

  function token(current: Run, { form, authorization, query }: Request): Reply {
    const { module, code, registration } = current;
    must([...query].length === 0, 'parameters in the query of the token request');
    must(!form.has('client_secret') && !form.has('client_assertion'), 'not client_secret_basic');
    const [id, secret] = Buffer.from(authorization.replace(/^Basic /, ''), 'base64')
      .toString()
      .split(':');
    const decoded = (text = '') => new URLSearchParams(`x=${text}`).get('x');
    must(decoded(id) === clientId && decoded(secret) === clientSecret, 'the client did not authenticate');
    must(form.get('grant_type') === 'authorization_code', 'another grant');
    must(code !== undefined && form.get('code') === code.value, 'an unknown code');
    must(form.get('redirect_uri') === registration.redirectUri, 'another redirect_uri than in the request');
    const verifier = createHash('sha256')
      .update(form.get('code_verifier') ?? '')
      .digest('base64url');
    must(verifier === code?.challenge, 'the code verifier does not fit');
    delete current.code;
    const accessToken = made();
    current.accessToken = { value: accessToken, scope: code.scope };
    const now = Math.floor(Date.now() / 1000);
    const regular = {
      iss: issuer,
      sub: subject,
      aud: clientId,
      nonce: code.nonce,
      iat: now,
      exp: now + 300,
      ...(module.algorithm === 'none' ? {} : { at_hash: halfHash(accessToken) }),
      ...(module.logout === undefined ? {} : { sid: current.sid }),
    };
    const claims = module.idToken?.(regular) ?? regular;
    if (module.rotates === 'before-signing') current.keys = createSuiteKeys(module.keys);
    const signed = current.keys.sign(module.algorithm ?? 'RS256', claims);
    const idToken = module.isSpoilt ? spoilt(signed) : signed;
    current.idTokens.push(idToken);
    secrets.push(idToken);
    return { json: { access_token: accessToken, token_type: 'Bearer', id_token: idToken } };
  }

  function userinfo(current: Run, { authorization, form, query, method }: Request): Reply {
    const { accessToken, module } = current;
    must(!query.has('access_token'), 'the access token stands in a URL');
    const inBody = method === 'POST' ? form.get('access_token') : null;
    must(inBody === null || authorization === '', 'the access token came twice');
    const sent = inBody ?? /^Bearer (.+)$/i.exec(authorization)?.[1];
    must(accessToken !== undefined && sent === accessToken.value, 'UserInfo without the access token');
    const regular = claimsOfScope(accessToken.scope);
    if (module.signsUserinfo) return { jwt: current.keys.sign('RS256', { ...regular, iss: issuer, aud: clientId }) };
    return { json: module.userinfo?.(regular) ?? regular };
  }

  function made(): string {
    const value = randomBytes(30).toString('base64url');
    secrets.push(value);
    return value;
  }

  return {
    issuer,
    clientId,
    clientSecret,
    secrets,
    begin(module, registration) {
      run = {
        module,
        registration,
        seen: [],
        failures: [],
        keys: createSuiteKeys(module.keys),
        sid: randomBytes(9).toString('hex'),
        jwksPath: module.hasOwnJwksUri ? `jwks${randomBytes(5).toString('hex')}` : 'jwks',
        idTokens: [],
      };
      return run;
    },
    verdict({ module, seen, failures }) {
      const rest = [...seen];
      const missing = module.requires.filter((endpoint) => {
        const at = rest.indexOf(endpoint);
        if (at >= 0) rest.splice(at, 1);
        return at < 0;
      });
      return [
        ...failures,
        ...missing.map((endpoint) => `${endpoint} was not called, or not often enough`),
        ...(module.forbids ?? []).filter((each) => seen.includes(each)).map((each) => `${each} must not be called`),
      ];
    },
    stop: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

function halfHash(text: string): string {
  return createHash('sha256').update(text).digest().subarray(0, 16).toString('base64url');
}

function spoilt(jwt: string): string {
  const [header, payload, signature = ''] = jwt.split('.');
  const bytes = Buffer.from(signature, 'base64url').map((byte) => byte ^ 0x5a);
  return `${header}.${payload}.${Buffer.from(bytes).toString('base64url')}`;
}

function send(response: ServerResponse, reply: Reply): void {
  const common = { 'cache-control': 'no-cache, no-store, max-age=0, must-revalidate' };
  if ('location' in reply) response.writeHead(302, { ...common, location: reply.location }).end();
  else if ('html' in reply)
    response.writeHead(200, { ...common, 'content-type': 'text/html;charset=UTF-8' }).end(reply.html);
  else if ('jwt' in reply)
    response.writeHead(200, { ...common, 'content-type': 'application/jwt;charset=UTF-8' }).end(reply.jwt);
  else
    response
      .writeHead(reply.status ?? 200, { ...common, 'content-type': 'application/json' })
      .end(JSON.stringify(reply.json));
}
