import { randomUUID } from 'node:crypto';
import { must, type Reply, type Run } from './run.ts';
import { subject } from './user.ts';

/**
 * RP-initiated logout: looks at the request, tells the back channel before it answers, and leads through a page with a
 * frame for the front channel.
 */
export async function endSession(
  run: Run,
  parameters: URLSearchParams,
  server: { issuer: string; clientId: string },
): Promise<Reply> {
  const { logout } = run.module;
  must(logout !== undefined, 'no logout was asked for');
  must(run.idTokens.includes(parameters.get('id_token_hint') ?? ''), 'id_token_hint is none of this run');
  const target = parameters.get('post_logout_redirect_uri') ?? '';
  must(target === run.registration.postLogoutRedirectUri, 'post_logout_redirect_uri is not registered');
  const state = parameters.get('state') ?? '';
  if (logout.state !== undefined) must(state !== '', 'no state: the suite skips the module');

  if (logout.channels.includes('back')) await tellBackChannel(run, server);
  const returned = { other: 'another-state', none: '', same: state }[logout.state ?? 'same'];
  const returnUrl = returned === '' ? target : `${target}?${new URLSearchParams({ state: returned })}`;
  if (!logout.channels.includes('front')) return { location: returnUrl };
  run.returnUrl = returnUrl;
  return {
    html: `<!DOCTYPE html><h1>Front channel logout</h1><iframe src="${frameUrl(run, server.issuer)}"></iframe>`,
  };
}

/** Where the frame of the front channel goes: the client is registered with `frontchannel_logout_session_required`. */
export function frameUrl(run: Run, issuer: string): string {
  return `${run.registration.frontchannelLogoutUri}?${new URLSearchParams({ iss: issuer, sid: run.sid })}`;
}

async function tellBackChannel(run: Run, { issuer, clientId }: { issuer: string; clientId: string }): Promise<void> {
  const { token, algorithm = 'RS256', status: expected = 200 } = run.module.logout ?? {};
  const now = Math.floor(Date.now() / 1000);
  const regular = {
    iss: issuer,
    sub: subject,
    aud: clientId,
    jti: randomUUID(),
    sid: run.sid,
    events: { 'http://schemas.openid.net/event/backchannel-logout': {} },
    iat: now,
    exp: now + 120,
    ignored_claim: 'claims that are not understood are ignored',
  };
  const form = new URLSearchParams({
    logout_token: run.keys.sign(algorithm, token?.(regular) ?? regular),
    ignored_parameter: 'so are parameters',
  });
  run.seen.push('backchannel');
  const { status, cacheControl } = await run.registration.postToBackChannel(form);
  if (status !== expected) run.failures.push(`the back channel got ${status} instead of ${expected}`);
  if (!cacheControl.split(',').some((part) => part.trim() === 'no-store'))
    run.failures.push('the answer to the back channel may be stored');
}
