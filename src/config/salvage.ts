import { randomBytes } from 'node:crypto';
import type { z } from 'zod';
import { buildConfig } from './config.ts';
import type { CrossProblem } from './document.ts';
import { configSchema } from './schema/schema.ts';

type Data = Record<PropertyKey, unknown>;

/**
 * The problems across keys (overlapping paths, cookie prefixes, …) of a file that also has simpler ones, so that an
 * operator sees all of them in one run: what is wrong is cut out, what is missing is stood in for, and findings about
 * either are dropped.
 */
export function salvageProblems(data: unknown): CrossProblem[] {
  if (!isData(data)) return [];
  const copy = structuredClone(data);
  const touched: PropertyKey[][] = [];
  for (let round = 0; round < 50; round++) {
    const parsed = configSchema.safeParse(copy);
    if (parsed.success) {
      return buildConfig(parsed.data).problems.filter(({ path }) => !touched.some((cut) => isPrefix(cut, path)));
    }
    const cuts = parsed.error.issues.flatMap(culprits);
    for (const cut of cuts) {
      touched.push(cut);
      if (!remove(copy, cut)) remove(copy, cut.slice(0, -1));
    }
    standIn(copy);
  }
  return [];
}

function culprits(issue: z.core.$ZodIssue): PropertyKey[][] {
  return issue.code === 'unrecognized_keys' ? issue.keys.map((key) => [...issue.path, key]) : [[...issue.path]];
}

/** Replaces top-level parts that had to go but without which nothing else could be checked. */
function standIn(data: Data): void {
  data.session ??= { keys: [randomBytes(32).toString('base64url')] };
  if (data.frontends !== undefined) return;
  data.publicUrl ??= 'https://stand-in.invalid';
  data.authorizationServer ??= { issuer: 'https://stand-in.invalid', clientId: 'stand-in', clientSecret: 'stand-in' };
}

function remove(data: Data, path: PropertyKey[]): boolean {
  const last = path.at(-1);
  if (last === undefined) return false;
  let holder: unknown = data;
  for (const step of path.slice(0, -1)) holder = isData(holder) ? holder[step] : undefined;
  if (Array.isArray(holder)) return holder.splice(Number(last), 1).length > 0;
  return isData(holder) && Object.hasOwn(holder, last) && delete holder[last];
}

function isPrefix(prefix: PropertyKey[], path: PropertyKey[]): boolean {
  return prefix.every((step, index) => path[index] === step);
}

function isData(value: unknown): value is Data {
  return typeof value === 'object' && value !== null;
}
