import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FrontendContext } from '../frontend/context.ts';
import { cookieNames, expiredCookies } from '../http/cookies.ts';
import { csrfDetail } from '../http/request-source.ts';
import { CsrfRejected, problem } from '../problems/errors.ts';

/**
 * The way out for a browser whose cookies are too many for every other route (T45): the button on the page that says
 * so. It may log the user out of all that is under the same registrable domain, so nobody else may press it. Nothing
 * ends at the authorization server, and neither Redis nor a session is asked.
 */
export async function clearCookies(
  { frontend, metrics }: FrontendContext,
  { method, headers }: FastifyRequest,
  reply: FastifyReply,
): Promise<unknown> {
  const site = headers['sec-fetch-site'];
  // A form's Origin may be null; a browser that says "same-origin" has said it all.
  const isOurs = site === 'same-origin' || (site === undefined && headers.origin === frontend.origin);
  if (!isOurs) {
    metrics.csrfRejections.inc({ frontend: frontend.name, reason: 'cross-site' });
    throw problem(CsrfRejected, { detail: csrfDetail('cross-site', method, headers, frontend.origin) });
  }
  reply.header('clear-site-data', '"cookies"');
  const names = cookieNames(headers.cookie);
  const isOwn = (name: string) => name === frontend.cookieName || name.startsWith(`${frontend.cookieName}.`);
  const ownFirst = [...names.filter(isOwn), ...names.filter((name) => !isOwn(name))];
  reply.header('set-cookie', expiredCookies(ownFirst, frontend.isSecure));
  return reply.redirect(`${frontend.basePath}/`, 303);
}
