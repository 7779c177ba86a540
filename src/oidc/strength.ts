/** How, and how recently, a user must have authenticated (Core §3.1.2.1, RFC 9470). */
export interface Strength {
  /** One of these is needed, the first is liked best; any will do when there are none. */
  acrValues: string[];
  /** Seconds since the user authenticated. */
  maxAge?: number;
}

/** What is judged, as a verified ID token said it. */
export interface Authentication {
  acr?: string;
  /** Epoch seconds. */
  authTime?: number;
}

export interface Moment {
  /** Epoch seconds. */
  now: number;
  /** Seconds that the provider’s clock may differ. */
  tolerance: number;
}

/** Did the user authenticate as strongly and as recently as this asks? The one rule for logins and for APIs. */
export function isStrongEnough({ acrValues, maxAge }: Strength, { acr, authTime }: Authentication, moment: Moment) {
  if (acrValues.length > 0 && (acr === undefined || !acrValues.includes(acr))) return false;
  if (maxAge === undefined) return true;
  const { now, tolerance } = moment;
  return authTime !== undefined && authTime <= now + tolerance && authTime + maxAge + tolerance >= now;
}

/** What satisfies all of them, in the order of the last; `undefined` when nothing does. */
export function mergeStrengths(strengths: Strength[]): Strength | undefined {
  const lists = strengths.map(({ acrValues }) => acrValues).filter((values) => values.length > 0);
  const acrValues = (lists.at(-1) ?? []).filter((value) => lists.every((values) => values.includes(value)));
  if (lists.length > 0 && acrValues.length === 0) return undefined;
  const ages = strengths.flatMap(({ maxAge }) => maxAge ?? []);
  return { acrValues, ...(ages.length === 0 ? {} : { maxAge: Math.min(...ages) }) };
}
