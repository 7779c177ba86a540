import { createHash } from 'node:crypto';
import type { KeyRing, SealingKey } from '../crypto/keys.ts';
import { open, seal } from '../crypto/seal.ts';
import { isKnownFormat, recordFormat, type StoredSession } from '../store/record.ts';
import type { Identity } from './session.ts';

/** To whom a session belongs besides its frontend, whose keys seal it. */
export interface Owner {
  issuer: string;
  clientId: string;
}

/** Times of a session that the store keeps but does not decide about. Epoch seconds. */
export interface FixedTimes {
  createdAt: number;
  expiresAt: number;
}

/** What of a record is sealed, and in which context. */
export interface RecordFormat {
  seal(
    handle: string,
    tokenKeys: SealingKey[],
    content: { generation: number; identity: Identity; tokens: string } & FixedTimes,
  ): { identity: Buffer; tokens: Buffer };
  /** `undefined` for what is not to be believed (T52, W12) or is somebody else's (W6). Throws for a newer format. */
  open(
    handle: string,
    tokenKeys: SealingKey[],
    stored: StoredSession,
  ): { identity: Identity; tokens: string } | undefined;
  /** The identity alone, without the ticket: for the inventory and logouts by the provider. Its times are not vouched for. */
  openIdentity(handle: string, stored: StoredSession): Identity | undefined;
  /** Another issuer's or client's, in the same Redis with the same keys: nothing of it is ours to end. */
  isForeign(handle: string, stored: StoredSession): boolean;
}

/** What the bytes are and whose, as each format has it. A released one never changes: `test/fixtures/records` has one that opens for ever. */
const contexts: Record<
  number,
  { identity(handle: string): string; tokens(handle: string, generation: number): string }
> = {
  // The generation keeps an old token set out of a newer record.
  1: {
    identity: (handle) => `identity/1/${handle}`,
    tokens: (handle, generation) => `tokens/1/${handle}/${generation}`,
  },
};

/**
 * Beside the token set, under its seal, which only the browser's ticket opens: what belongs to this generation, so that
 * nobody who writes to Redis can put an older identity beside newer tokens or move an end further away (W12).
 */
interface Vouched {
  /** SHA-256 of the sealed identity, base64url. */
  i: string;
  /** Created, and the absolute end: epoch seconds. */
  c: number;
  x: number;
}

export function createRecordFormat(keys: KeyRing, owner: Owner): RecordFormat {
  const isOurs = ({ issuer, client }: Identity) =>
    // Release 0.1 did not write the client down.
    issuer === owner.issuer && (client === undefined || client === owner.clientId);
  const openAnybodys = (handle: string, stored: StoredSession): Identity | undefined => {
    const context = contexts[stored.format];
    const text = context && open(keys.identity, stored.identity, context.identity(handle));
    return text === undefined ? undefined : (JSON.parse(text) as Identity);
  };
  const openIdentity = (handle: string, stored: StoredSession): Identity | undefined => {
    const identity = isKnownFormat(stored) ? openAnybodys(handle, stored) : undefined;
    return identity !== undefined && isOurs(identity) ? identity : undefined;
  };

  return {
    seal(handle, tokenKeys, { generation, identity, tokens, createdAt, expiresAt }) {
      const context = contexts[recordFormat];
      if (context === undefined) throw new Error(`no context for format ${recordFormat}`);
      const owned = { ...identity, client: owner.clientId };
      const sealed = seal(keys.identity, JSON.stringify(owned), context.identity(handle));
      const vouched = { i: digest(sealed), c: createdAt, x: expiresAt };
      return {
        identity: sealed,
        tokens: seal(tokenKeys, addVouched(tokens, vouched), context.tokens(handle, generation)),
      };
    },
    open(handle, tokenKeys, stored) {
      const identity = openIdentity(handle, stored);
      if (identity === undefined) return undefined;
      const context = contexts[stored.format];
      const text = context && open(tokenKeys, stored.tokens, context.tokens(handle, stored.generation));
      if (text === undefined) return undefined;
      const { tokens, vouched } = takeVouched(text);
      return isVouchedFor(stored, vouched) ? { identity, tokens } : undefined;
    },
    openIdentity,
    isForeign(handle, stored) {
      const identity = openAnybodys(handle, stored);
      return identity !== undefined && !isOurs(identity);
    },
  };
}

/** Release 0.1 vouched for nothing: its records, and what it commits to ours, are believed until the next release. */
function isVouchedFor(stored: StoredSession, vouched: Vouched | undefined): boolean {
  if (vouched === undefined) return true;
  return (
    vouched.i === digest(stored.identity) && vouched.c === stored.createdAt && stored.expiresAt <= vouched.x // nearer is the provider's right
  );
}

/** Where it stands in the JSON of the token set: first, so that it is found without parsing what `tokens/` parses. */
const opening = '{"v":';

function addVouched(tokens: string, vouched: Vouched): string {
  return `${opening}${JSON.stringify(vouched)},${tokens.slice(1)}`;
}

function takeVouched(text: string): { tokens: string; vouched?: Vouched } {
  const end = text.indexOf('}');
  if (!text.startsWith(opening) || end === -1) return { tokens: text };
  return { vouched: JSON.parse(text.slice(opening.length, end + 1)), tokens: `{${text.slice(end + 2)}` };
}

function digest(sealed: Buffer): string {
  return createHash('sha256').update(sealed).digest('base64url');
}
