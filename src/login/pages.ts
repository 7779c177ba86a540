import type { FastifyReply } from 'fastify';
import { escapeHtml } from '../problems/page.ts';
import { framedHeaders } from '../problems/security-headers.ts';

/** A page that goes on by itself: what it leads to comes from our own origin, with the Strict cookie. */
export function sendReload(reply: FastifyReply, url: string): FastifyReply {
  return sendPage(reply.header('refresh', `0; url=${url}`), `<p><a href="${escapeHtml(url)}">Continue</a></p>`);
}

/** The same in a frame. Nobody sees it, and the code of an authorization response stands in no page (CB11). */
export function sendReloadInFrame(reply: FastifyReply, url: string): FastifyReply {
  return sendPage(reply.headers({ ...framedHeaders(), refresh: `0; url=${url}` }), '');
}

/** A page of ours with nothing in it but this. */
export function sendPage(reply: FastifyReply, body: string): FastifyReply {
  const head = '<meta charset="utf-8">\n<title>One moment</title>';
  return reply.type('text/html; charset=utf-8').send(`<!doctype html>\n<html lang="en">\n${head}\n${body}\n</html>\n`);
}
