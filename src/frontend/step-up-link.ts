import { hashId } from '../crypto/keys.ts';
import { open, seal } from '../crypto/seal.ts';
import type { Strength } from '../oidc/strength.ts';
import type { FrontendContext } from './context.ts';

/** A page may show its dialog for as long before it goes there. Milliseconds. */
const lifeMs = 10 * 60_000;

interface SealedStepUp extends Strength {
  /** Epoch milliseconds. */
  expiresAt: number;
}

/**
 * Where a login of this strength begins. What is asked for is sealed: no browser and no other site chooses what the
 * authorization server is asked, and no parameter has to be opened for it (LG9, T87).
 */
export function buildStepUpUrl(context: FrontendContext, { acrValues, maxAge }: Strength): string {
  const { keys, loginPath, nowMs } = context;
  const content: SealedStepUp = {
    acrValues,
    ...(maxAge === undefined ? {} : { maxAge }),
    expiresAt: nowMs() + lifeMs,
  };
  return `${loginPath}?step_up=${seal(keys.transaction, JSON.stringify(content), sealContext(context)).toString('base64url')}`;
}

/** What such a URL asks for; `undefined` when it was not made here or is too old. */
export function openStepUp(context: FrontendContext, value: unknown): Strength | undefined {
  if (typeof value !== 'string' || !/^[A-Za-z0-9_-]+$/.test(value)) return undefined;
  const text = open(context.keys.transaction, Buffer.from(value, 'base64url'), sealContext(context));
  if (text === undefined) return undefined;
  const { expiresAt, ...strength } = JSON.parse(text) as SealedStepUp;
  return expiresAt < context.nowMs() ? undefined : strength;
}

/** Names what was asked for, in the session that a step-up brought. */
export function stepUpId({ acrValues, maxAge }: Strength): string {
  return hashId(JSON.stringify([acrValues, maxAge ?? null])).slice(0, 16);
}

const sealContext = ({ frontend }: FrontendContext) => `step-up/1/${frontend.name}`;
