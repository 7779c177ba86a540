import { createHash } from 'node:crypto';
import type { FastifyReply } from 'fastify';
import { escapeHtml } from '../problems/page.ts';
import { framedHeaders } from '../problems/security-headers.ts';
import type { SilentOutcome } from './silent.ts';

/** A page that goes on by itself: what it leads to comes from our own origin, with the Strict cookie. */
export function sendReload(reply: FastifyReply, url: string): FastifyReply {
  return send(reply.header('refresh', `0; url=${url}`), `<p><a href="${escapeHtml(url)}">Continue</a></p>`);
}

/** The same in a frame. Nobody sees it, and the code of an authorization response stands in no page (CB11). */
export function sendReloadInFrame(reply: FastifyReply, url: string): FastifyReply {
  return send(reply.headers({ ...framedHeaders(), refresh: `0; url=${url}` }), '');
}

/** What the page around a frame is told. `source` and `isLoggedIn` are the names that pages know from other such servers. */
export interface FrameMessage {
  source: 'bff-silent-login';
  isLoggedIn: boolean;
  outcome: 'logged_in' | SilentOutcome;
  /** The error, where it was one. */
  code?: string | undefined;
}

const script = 'const { message, origin } = document.body.dataset; parent.postMessage(JSON.parse(message), origin);';
const scriptHash = createHash('sha256').update(script).digest('base64');

/** Tells the page around the frame, and no page of another origin. */
export function sendFrameMessage(
  reply: FastifyReply,
  origin: string,
  said: Pick<FrameMessage, 'outcome' | 'code'>,
): FastifyReply {
  const message: FrameMessage = { source: 'bff-silent-login', isLoggedIn: said.outcome === 'logged_in', ...said };
  const data = `data-origin="${escapeHtml(origin)}" data-message="${escapeHtml(JSON.stringify(message))}"`;
  return send(reply.headers(framedHeaders(scriptHash)), `<body ${data}><script>${script}</script></body>`);
}

function send(reply: FastifyReply, body: string): FastifyReply {
  const head = '<meta charset="utf-8">\n<title>One moment</title>';
  return reply.type('text/html; charset=utf-8').send(`<!doctype html>\n<html lang="en">\n${head}\n${body}\n</html>\n`);
}
