import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { nonceMark, withDefaults } from '../csp/policy.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { admitsPage } from '../http/request-source.ts';
import { PreconditionFailed, problem, RangeUnsatisfiable, RouteUnknown } from '../problems/errors.ts';
import { fileHeaders } from '../problems/security-headers.ts';
import { queryOf } from '../routing/request-path.ts';
import { acceptedCodings, namesTag, rangeOf } from './negotiate.ts';
import { type AtHand, mostRead } from './pack.ts';
import type { NoncePage } from './page.ts';
import { openReleases } from './releases.ts';
import type { Representation, ServedFile } from './served-file.ts';

/**
 * Serves the built SPA from our own copy of it: a request can only name one of its files, so it can't reach any other.
 * Navigations to unknown paths get index.html, for routers in the browser.
 */
export async function filesPlugin(scope: FastifyInstance, { frontend, log }: FrontendContext): Promise<void> {
  const { folder = '', contentSecurityPolicy = '' } = frontend.files ?? {};
  if (!existsSync(join(folder, 'index.html'))) {
    throw new Error('files: the folder has no index.html: build the SPA first or correct the path');
  }
  scope.addHook('onRoute', (route) => {
    route.config = { ...route.config, kind: 'file', frontend: frontend.name };
  });
  const { basePath, isSecure } = frontend;
  const policy = withDefaults(contentSecurityPolicy);
  const settings = { basePath, policy, headers: fileHeaders(isSecure) };
  const releases = await openReleases({ folder: resolve(folder), settings, log });
  scope.addHook('onClose', async () => releases.close());

  function answer(request: FastifyRequest, reply: FastifyReply): FastifyReply | Promise<FastifyReply> {
    const { '*': path = '' } = request.params as { '*'?: string }; // the router decoded it, once
    const isFolder = path === '' || path.endsWith('/');
    // Exported sites (Next, SvelteKit) link to /about, and have about.html.
    const file = isFolder ? releases.find(`${path}index.html`) : (releases.find(path) ?? releases.find(`${path}.html`));
    if (file === undefined) return answerOther(path, request, reply);
    if (path === '' && basePath !== '' && !pathOf(request).endsWith('/')) return redirect(path, request, reply);
    return send(file, request, reply);
  }

  async function answerOther(path: string, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const ahead = await releases.findAhead(path);
    if (ahead !== undefined) return send(ahead, request, reply);
    // Programs ask for these: they would take the page for what they look for.
    const isHidden = path.split('/').some((part) => part.startsWith('.'));
    if (isHidden || !admitsPage(request.headers, path)) throw problem(RouteUnknown);
    // A page that stands in a folder has URLs relative to it.
    if (!path.endsWith('/') && releases.find(`${path}/index.html`) !== undefined) return redirect(path, request, reply);
    const file = releases.find('index.html');
    if (file === undefined) throw problem(RouteUnknown);
    return send(file, request, reply);
  }

  /** To the same with a slash. Not for ever: another release may have another page there. */
  function redirect(path: string, request: FastifyRequest, reply: FastifyReply): FastifyReply {
    const query = queryOf(request.raw.url ?? '');
    const segments = path === '' ? [] : path.split('/').map(encodeURIComponent);
    const target = [basePath, ...segments, ''].join('/') + (query === '' ? '' : `?${query}`);
    return reply
      .headers({ ...settings.headers, 'cache-control': 'no-cache', 'content-length': '0' })
      .redirect(target, 308);
  }

  for (const url of ['/', '/*']) scope.route({ method: ['GET', 'HEAD'], url, handler: answer });
}

function pathOf(request: FastifyRequest): string {
  return (request.raw.url ?? '').split('?', 1)[0] as string;
}

function send(file: ServedFile, request: FastifyRequest, reply: FastifyReply): FastifyReply | Promise<FastifyReply> {
  if (file.noncePage !== undefined) return sendWithNonce(file, file.noncePage, reply);
  const codings = acceptedCodings(request.headers['accept-encoding']);
  const ready = file.ready[codings[0] ?? 'identity'];
  return ready === undefined ? sendWhenReady(file, request, reply) : sendOne(ready, request, reply);
}

/** How long the best coding is waited for while another one will do, milliseconds. */
const waitMs = 1000;

/** Nobody has asked for it in this coding, or there is none. */
async function sendWhenReady(file: ServedFile, request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
  const codings = acceptedCodings(request.headers['accept-encoding']);
  for (const [index, coding] of codings.entries()) {
    const made = file.represent(coding);
    const found = await (index === codings.length - 1
      ? made
      : Promise.race([made, pause(waitMs, undefined, { ref: false })]));
    if (found !== undefined) return sendOne(found, request, reply);
  }
  return sendOne(file.ready.identity, request, reply);
}

function sendOne(
  found: Representation,
  request: FastifyRequest,
  reply: FastifyReply,
): FastifyReply | Promise<FastifyReply> {
  const { body, etag, headers, unchangedHeaders } = found;
  const asked = request.headers;
  // In the order of RFC 9110 §13.2.2.
  if (asked['if-match'] !== undefined && !namesTag(asked['if-match'], etag, true)) throw problem(PreconditionFailed);
  if (asked['if-none-match'] !== undefined && namesTag(asked['if-none-match'], etag))
    return reply.code(304).headers(unchangedHeaders).send();
  const isFresh = asked['if-range'] === undefined || asked['if-range'] === etag;
  const range = asked.range !== undefined && isFresh ? rangeOf(asked.range, body.size) : undefined;
  if (range === 'unsatisfiable') {
    reply.header('content-range', `bytes */${body.size}`);
    throw problem(RangeUnsatisfiable);
  }
  const bytes = body.atHand();
  if (range === undefined && bytes !== undefined) return sendAtOnce(found, bytes, reply);
  reply.headers(headers);
  return sendPart(found, range ?? { start: 0, end: body.size - 1 }, range !== undefined, request, reply);
}

/** Nearly every answer. Past Fastify, which would look at each header and at the bytes once more. */
function sendAtOnce({ lines }: Representation, bytes: AtHand, reply: FastifyReply): FastifyReply {
  const { raw, request } = reply;
  const head = [...lines, 'x-request-id', request.id];
  if (reply.getHeader('connection') === 'close') head.push('connection', 'close'); // the guard says so in a drain
  reply.hijack();
  raw.writeHead(200, head);
  raw.end(bytes, 'latin1'); // to HEAD Node sends none of them
  return reply;
}

async function sendPart(
  { body }: Representation,
  { start, end }: { start: number; end: number },
  isRange: boolean,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  if (isRange)
    reply
      .code(206)
      .header('content-range', `bytes ${start}-${end}/${body.size}`)
      .header('content-length', String(end - start + 1));
  if (request.method === 'HEAD') return reply.send();
  if (body.size <= mostRead) return reply.send((await body.read()).subarray(start, end + 1));
  return reply.send(body.stream(start, end));
}

/** A 304 would meet the nonce of another answer: nothing of this one is kept. */
function sendWithNonce(file: ServedFile, parts: NoncePage, reply: FastifyReply): FastifyReply {
  const nonce = randomBytes(16).toString('base64');
  const { headers } = file.ready.identity;
  const { etag: _tag, 'accept-ranges': _ranges, 'content-length': _length, ...others } = headers;
  const policy = headers['content-security-policy'];
  return reply
    .headers({ ...others, 'content-security-policy': policy.replaceAll(nonceMark, nonce) })
    .send(parts.join(nonce));
}
