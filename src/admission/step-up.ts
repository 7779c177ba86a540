import type { FastifyBaseLogger } from 'fastify';
import type { Api } from '../config/config.ts';
import type { FrontendContext } from '../frontend/context.ts';
import { buildStepUpUrl, stepUpId } from '../frontend/step-up-link.ts';
import { loginStrength } from '../oidc/authorization.ts';
import { isStrongEnough, type Strength } from '../oidc/strength.ts';
import { type Problem, problem, StepUpFailed, StepUpRequired } from '../problems/errors.ts';
import type { Session } from '../session/session.ts';

/** So long after a step-up the same one would bring the same again. Seconds. */
const longestWait = 60;
const shortestWait = 10;

/**
 * The answer to a call that needs a stronger or more recent authentication (RFC 9470 §3), by a rule or by the API
 * itself. Whoever has just logged in for it, or has it already as far as we know, is not sent round in circles (PO7).
 */
export function answerStepUp(
  context: FrontendContext,
  api: Api,
  asked: Strength,
  by: 'rule' | 'upstream',
  session: Session | undefined,
  log: FastifyBaseLogger,
): Problem {
  const { frontend, metrics } = context;
  const tolerance = frontend.authorizationServer.clockTolerance / 1000;
  const strength = loginStrength(frontend.authorizationServer, {}, asked);
  const isUseless =
    session !== undefined &&
    strength !== undefined &&
    (by === 'rule' ? isUselessForRule : isUselessForUpstream)(
      asked,
      session,
      tolerance,
      session.identity.stepUp === stepUpId(strength),
    );
  const outcome = strength === undefined ? 'impossible' : isUseless ? 'failed' : 'required';
  metrics.stepUps.inc({ frontend: frontend.name, api: api.name, by, outcome });
  log[outcome === 'required' ? 'info' : 'warn'](
    {
      frontend: frontend.name,
      api: api.name,
      by,
      outcome,
      acrValues: asked.acrValues,
      maxAge: asked.maxAge,
      ...(session === undefined ? {} : { session: session.handle.slice(0, 12) }),
      audit: 'step_up',
    },
    explanations[outcome],
  );
  if (strength === undefined || isUseless) return problem(StepUpFailed);
  return problem(StepUpRequired, { loginUrl: buildStepUpUrl(context, strength), challenge: buildChallenge(asked) });
}

const explanations = {
  required: 'a stronger or more recent login is needed',
  failed: 'a step-up did not help: compare the acr and auth_time of the ID token with what is asked for',
  impossible: 'no login can be as asked for: authorizationServer.acrValues has none of these acr values',
};

/** Was it too weak from the start, although its login was asked for exactly this? Then clocks or rules disagree. */
function isUselessForRule(
  asked: Strength,
  { identity, createdAt }: Session,
  tolerance: number,
  isOfStepUp: boolean,
): boolean {
  return isOfStepUp && !isStrongEnough(asked, identity, { now: createdAt, tolerance });
}

/** The API sees what we do not. A login that is certainly strong and recent enough, or was just made for it, is all there is. */
function isUselessForUpstream(
  asked: Strength,
  { identity, createdAt, now }: Session,
  tolerance: number,
  isOfStepUp: boolean,
): boolean {
  const { acrValues, maxAge } = asked;
  // Twice the tolerance less: the API’s clock may be the one that is ahead.
  const certain = maxAge === undefined ? asked : { acrValues, maxAge: maxAge - 2 * tolerance };
  if (isStrongEnough(certain, identity, { now, tolerance })) return true;
  // After that time an authentication counts as old again, and another one would help.
  const wait = Math.max(shortestWait, Math.min(longestWait, maxAge ?? longestWait));
  return isOfStepUp && now < createdAt + wait;
}

/** The configuration or `readChallenge` saw to it that no value has a quote, backslash, space or control character (T87). */
export function buildChallenge({ acrValues, maxAge }: Strength): string {
  return [
    'error="insufficient_user_authentication"',
    ...(acrValues.length === 0 ? [] : [`acr_values="${acrValues.join(' ')}"`]),
    ...(maxAge === undefined ? [] : [`max_age="${maxAge}"`]),
  ].join(', ');
}
