import { setTimeout as pause } from 'node:timers/promises';
import { refreshLease } from '../config/config.ts';
import { exchangeGrant, type Granted, isRefusal } from '../oidc/api-grants.ts';
import { refreshGrant } from '../oidc/refresh.ts';
import type { Session } from '../session/session.ts';
import { type ApiGrant, targetOf } from './grant.ts';
import {
  isWorthOneMoreTry,
  type Lease,
  type LeaseLost,
  type RefreshOutcome,
  secondTryAfterMs,
  type Want,
} from './refresh-rules.ts';
import { createSettlement, type SettlementOptions } from './settle.ts';
import { tokensOf } from './token-set.ts';

export type RunGrant = (session: Session, lease: Lease, want: Want) => Promise<RefreshOutcome | LeaseLost>;

/**
 * What the holder of a session's lease does: one grant, and how it is settled. `session` was read inside the lease
 * (RF5). The rules and their reasons: docs/sessions-and-tokens.md.
 */
export function createLeasedGrant(options: SettlementOptions): RunGrant {
  const { frontend, server, log, revoke } = options;
  const settle = createSettlement(options);

  /** Is there time for one more call with the key set behind it, and for the commit? */
  const protectsCall = ({ leasedUntil }: Lease) =>
    performance.now() + refreshLease(server.config).callMs <= leasedUntil;

  async function refresh(session: Session, lease: Lease, want: Want): Promise<RefreshOutcome | LeaseLost> {
    const { refreshToken, expiresAt } = tokensOf(session);
    const { grant } = want;
    // Without a refresh token nothing but the login's own token can be had. While that lives the session is fine, and
    // this API is not; then somebody must log in again, whichever API they call (W22).
    if (refreshToken === undefined)
      return grant === undefined || session.now >= expiresAt
        ? settle.endUnlessMoved(session, lease, 'no-refresh-token')
        : settle.refuse(session, lease, grant, 'no-refresh-token');

    // A process that slept may wake up after its lease: then another one uses the token, and this one must not (T112).
    if (!protectsCall(lease)) return { kind: 'lease-lost' };
    let result = await refreshGrant(server, refreshToken, session.identity, targetOf(grant));
    if (isWorthOneMoreTry(result)) {
      // The server may have rotated already: one more try with the same token, with fresh credentials.
      await pause(secondTryAfterMs);
      if (protectsCall(lease)) result = await refreshGrant(server, refreshToken, session.identity, targetOf(grant));
    }
    if (grant !== undefined && result.kind === 'failed' && isRefusal(result.fault)) {
      const { fault } = result;
      if (fault.kind === 'misconfigured') return settle.refuse(session, lease, grant, fault.code, fault.said);
      if (want.isSecondTry === true) return settle.refuse(session, lease, grant, fault.kind, fault.said);
      // Is it the refresh token, or only this resource? Some servers say `invalid_grant` for both: ask for no resource.
      if (!protectsCall(lease)) return { kind: 'lease-lost' };
      const plain = await refreshGrant(server, refreshToken, session.identity);
      if (plain.kind === 'refreshed') {
        const stored = await settle.store(session, lease, {}, plain);
        return stored.kind === 'refreshed' ? { ...stored, missed: 'grant' } : stored;
      }
      result = plain;
    }
    switch (result.kind) {
      case 'refreshed':
        if (result.unverified !== undefined)
          log.warn(
            { frontend, reason: result.unverified },
            'a refreshed ID token could not be verified: its claims are not taken over',
          );
        return settle.store(session, lease, want, result);
      case 'foreign':
        log.error(
          { frontend, session: session.handle.slice(0, 12), reason: result.reason, audit: 'refresh_foreign_subject' },
          'a refresh brought tokens that are not this user’s: the session is ended',
        );
        revoke(result.unused ?? refreshToken);
        return settle.endUnlessMoved(session, lease, 'foreign');
      case 'spent':
        return settle.keepUntilEnd(session, lease, result.fault);
      case 'failed':
        return result.fault.kind === 'rejected'
          ? settle.endUnlessMoved(session, lease, 'rejected', result.fault.said)
          : settle.backOff(session, lease, result.fault, true);
    }
  }

  /** The subject token was alive when the flight began; the refresh token is not used. */
  async function exchange(
    session: Session,
    lease: Lease,
    grant: ApiGrant,
    how: NonNullable<ApiGrant['exchange']>,
    want: Want,
  ): Promise<RefreshOutcome> {
    const tokens = tokensOf(session);
    const subject = how.subjectToken === 'id_token' ? tokens.idToken : tokens.accessToken;
    if (subject === undefined) return settle.refuse(session, lease, grant, 'no-id-token');
    const result: Granted = await exchangeGrant(server, subject, targetOf(grant), how);
    if (result.kind === 'granted') {
      const { refreshToken: _unused, idToken: _other, ...response } = result.response;
      return settle.store(session, lease, want, { response });
    }
    const { fault } = result;
    // Never the wider token instead (DT4): this API gets none for now.
    if (!isRefusal(fault)) return settle.backOff(session, lease, fault, false);
    return settle.refuse(session, lease, grant, fault.kind === 'misconfigured' ? fault.code : fault.kind, fault.said);
  }

  return (session, lease, want) => {
    const { grant } = want;
    return grant?.exchange === undefined
      ? refresh(session, lease, want)
      : exchange(session, lease, grant, grant.exchange, want);
  };
}
