import type { FastifyReply } from 'fastify';
import { escapeHtml } from '../problems/page.ts';

/** A page that goes on by itself: what it leads to comes from our own origin, with the Strict cookie. */
export function sendReload(reply: FastifyReply, url: string): FastifyReply {
  reply.header('refresh', `0; url=${url}`);
  return reply.type('text/html; charset=utf-8').send(`<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>One moment</title>
<p><a href="${escapeHtml(url)}">Continue</a></p>
</html>
`);
}
