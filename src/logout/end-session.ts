import { createHash, randomBytes } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { deriveSessionKeys, hashId } from '../crypto/keys.ts';
import { open, seal } from '../crypto/seal.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { isNavigation, isOwnStart, isPrefetch } from '../http/request-source.ts';
import { buildEndSession, type EndSession, type EndSessionForm, type LogoutHint } from '../oidc/logout.ts';
import { CsrfRejected, problem } from '../problems/errors.ts';
import { escapeHtml } from '../problems/page.ts';

// The browser's way to the authorization server's own logout. With `idTokenHint: post` the ID token goes along in a
// form: in no URL, and out of reach for the page's scripts.

/** How long a page may take before it goes on to there. Seconds. */
const keptSeconds = 120;

/** Where the browser logs out at the authorization server; `undefined` when it has no such page. */
export function endSessionOf(
  { frontend, server }: FrontendContext,
  hint?: LogoutHint,
  state = randomBytes(16).toString('base64url'),
): Promise<EndSession | undefined> {
  const postLogoutRedirectUri = `${frontend.origin}${frontend.basePath}${server.config.postLogoutPath}`;
  return buildEndSession(server, { postLogoutRedirectUri, state, ...(hint === undefined ? {} : { hint }) });
}

/**
 * The address for a page that logged out by `fetch`. A form is kept in the store meanwhile, sealed with what only this
 * address has: a copy of the store opens nothing. It may be far longer than an address.
 */
export async function addressOf(context: FrontendContext, endSession: EndSession): Promise<string> {
  if (endSession.form === undefined) return endSession.url;
  const { frontend, keys, store } = context;
  const once = randomBytes(32).toString('base64url');
  const sealed = seal(deriveSessionKeys(keys.tokens, once), JSON.stringify(endSession), sealContext(context));
  try {
    await store.keep(storeKey(context, once), sealed, keptSeconds);
  } catch {
    return endSession.url; // logged out all the same, without the hint
  }
  const query = new URLSearchParams({ state: endSession.state, once });
  return `${frontend.origin}${frontend.basePath}/bff/end-session?${query}`;
}

/** Sends this navigation there, or home. */
export function goToEndSession(
  { frontend }: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
  endSession: EndSession | undefined,
): FastifyReply {
  if (endSession === undefined)
    return reply.redirect(`${frontend.basePath}${frontend.authorizationServer.postLogoutPath}`, 303);
  if (endSession.form === undefined || !isDocument(request)) return reply.redirect(endSession.url, 303);
  return sendForm(reply, endSession.form);
}

/**
 * `GET /bff/end-session?state=…&once=…`: the page that sends the form, once. Whoever can't have it logs out at the
 * authorization server without the hint: a late or doubled request, a script, a service worker.
 */
export async function continueLogout(
  context: FrontendContext,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  if (isPrefetch(request.headers)) throw problem(CsrfRejected);
  if (!isOwnNavigation(request)) return goToEndSession(context, request, reply, undefined);
  const { state, once } = request.query as Record<string, unknown>;
  const kept = isDocument(request) ? await takeKept(context, once) : undefined;
  const known = typeof state === 'string' && /^[\w-]{22}$/.test(state) ? state : undefined;
  return goToEndSession(context, request, reply, kept ?? (await endSessionOf(context, undefined, known)));
}

/**
 * Without a session there is no proof that the user wants this, so other sites must not be able to bring it about: not
 * by a link, and not by an image in a page of ours (T62). A browser that does not say where it comes from may be sent
 * by anyone.
 */
export function isOwnNavigation({ headers }: FastifyRequest): boolean {
  return headers['sec-fetch-site'] !== undefined && isOwnStart(headers) && isNavigation(headers);
}

/**
 * What scripts can't read. Neither `fetch` nor a frame is a document, and a service worker that passes a navigation on
 * says so (`sec-fetch-dest: empty`). What the browser loads ahead for a service worker is one by its destination, and
 * the worker gets it to read.
 */
function isDocument({ headers }: FastifyRequest): boolean {
  const isForWorker = headers['service-worker-navigation-preload'] !== undefined;
  return headers['sec-fetch-mode'] === 'navigate' && headers['sec-fetch-dest'] === 'document' && !isForWorker;
}

async function takeKept(context: FrontendContext, once: unknown): Promise<EndSession | undefined> {
  if (typeof once !== 'string' || !/^[\w-]{43}$/.test(once)) return undefined;
  const sealed = await context.store.take(storeKey(context, once)).catch(() => undefined);
  if (sealed === undefined) return undefined;
  const text = open(deriveSessionKeys(context.keys.tokens, once), sealed, sealContext(context));
  return text === undefined ? undefined : (JSON.parse(text) as EndSession);
}

const storeKey = ({ frontend }: FrontendContext, once: string) => hashId('end-session', frontend.name, once);
const sealContext = ({ frontend }: FrontendContext) => `end-session/1/${frontend.name}`;

const submit = 'document.forms[0].submit()';
const submitHash = createHash('sha256').update(submit).digest('base64');

/** The one page of ours with a token in it. It is gone as soon as it is there; the button is for browsers without scripts. */
function sendForm(reply: FastifyReply, { action, fields }: EndSessionForm): FastifyReply {
  // Chromium holds every redirect that follows against `form-action`, and a provider that logs out of its own
  // upstream goes elsewhere before it comes back: so any address of that scheme, where the action itself is ours.
  const formAction = new URL(action).protocol === 'https:' ? 'https:' : 'http: https:';
  reply.header(
    'content-security-policy',
    `default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${submitHash}'; form-action ${formAction}; base-uri 'none'; frame-ancestors 'none'`,
  );
  // A script that opens this page in a window must not look into it: with these, other pages of our own lose it too.
  reply.header('cross-origin-opener-policy', 'same-origin').header('cross-origin-embedder-policy', 'require-corp');
  // With no referrer at all the form's Origin would be null, which servers may refuse.
  reply.header('referrer-policy', 'strict-origin');
  const inputs = Object.entries(fields).map(
    ([name, value]) => `<input type="hidden" name="${escapeHtml(name)}" value="${escapeHtml(value)}">`,
  );
  return reply.type('text/html; charset=utf-8').send(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Logging out</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:34em;margin:15vh auto;padding:0 1em;color:#222}</style>
<form method="post" action="${escapeHtml(action)}">
${inputs.join('\n')}
<noscript><p>You are logged out here.</p><p><button>Log out at the login service too</button></p></noscript>
</form>
<script>${submit}</script>
</html>
`);
}
