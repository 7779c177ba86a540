import type { FrontendContext } from '../frontend/context.ts';
import type { EndReason } from '../session/events.ts';
import type { Session } from '../session/session.ts';
import { watchSession } from '../session/watch.ts';
import type { Review } from './authorize.ts';

/** What is kept of a session while a connection of it is open: no token, no claims. */
export type FollowedSession = Pick<Session, 'id' | 'handle' | 'generation' | 'expiresAt'>;

export function followed({ id, handle, generation, expiresAt }: Session): FollowedSession {
  return { id, handle, generation, expiresAt };
}

/** Who decides again about a method and a request target; `undefined` where no rule could decide otherwise. */
export type ReviewOf = (method: string, target: string) => Review | undefined;

export interface FollowOptions {
  /** Under which the connection is counted. */
  name: string;
  review: Review | undefined;
  /** Called once; without a reason this process is stopping. */
  onEnd(reason?: EndReason | 'expired' | 'policy-changed'): void;
}

/**
 * Follows a session for a connection to an API that was authorized once: it ends with the session, and when the rules
 * that let it in hold no more for what the session has become (T103). Returns how to stop.
 */
export function followSession(
  context: FrontendContext,
  session: FollowedSession,
  { name, review, onEnd }: FollowOptions,
): () => void {
  let { generation } = session;
  let isDue = false;
  const judge = async (again: Review) => {
    isDue = false;
    const admission = await again(session.id).catch(() => undefined);
    const { code, statusCode = 500 } = admission?.kind === 'refused' ? admission.problem : { code: '' };
    // Nothing was decided: an outage ends nothing, and the next look asks again.
    if (admission === undefined || (admission.kind === 'refused' && statusCode >= 500)) isDue = true;
    else if (admission.kind === 'refused') end(code === 'BFF_SESSION_REQUIRED' ? 'expired' : 'policy-changed');
  };
  const end = (reason: 'expired' | 'policy-changed') => {
    stop();
    onEnd(reason);
  };
  const stop = watchSession(context, session, name, {
    onEnd,
    ...(review === undefined
      ? {}
      : {
          onClaimsChanged: () => judge(review),
          // The channel may have missed it; and it does not tell of scopes, which a refresh can change too.
          onLook(seen) {
            if (seen === undefined || (seen.generation === generation && !isDue)) return;
            generation = seen.generation;
            void judge(review);
          },
        }),
  });
  return stop;
}
