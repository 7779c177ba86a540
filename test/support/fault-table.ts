import { appendFileSync } from 'node:fs';
import { expect, inject } from 'vitest';

declare module 'vitest' {
  interface ProvidedContext {
    /** Where `observe` writes its rows. */
    faultTable: string;
  }
}

/** One row of the table that `npm run test:faults` prints. */
export interface Observation {
  scenario: string;
  did: string;
  saw: Record<string, unknown>;
  /** What `saw` must equal; matchers such as `expect.any(Number)` and `between` may stand in it. */
  expected: Record<string, unknown>;
}

/** Notes what was done and seen for the table, then requires that it is what was expected. */
export function observe({ scenario, did, saw, expected }: Observation): void {
  let failure: unknown;
  try {
    expect(saw).toEqual(expected);
  } catch (error) {
    failure = error;
  }
  const row = { scenario, did, saw: shortly(saw), expected: shortly(expected), ok: failure === undefined };
  appendFileSync(inject('faultTable'), `${JSON.stringify(row)}\n`);
  if (failure !== undefined) throw failure;
}

/** A number in this range, both ends included. */
export function between(least: number, most: number): unknown {
  return new Range(least, most);
}

/** One of these values. */
export function oneOf(...values: unknown[]): unknown {
  return new OneOf(values);
}

/** Answers by status: `{ 200: 400 }`. */
export function statuses(answers: { status: number }[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { status } of answers) counts[status] = (counts[status] ?? 0) + 1;
  return counts;
}

class OneOf {
  readonly values: unknown[];
  constructor(values: unknown[]) {
    this.values = values;
  }
  asymmetricMatch(value: unknown): boolean {
    return this.values.includes(value);
  }
  toString(): string {
    return this.values.join(' or ');
  }
}

class Range {
  readonly least: number;
  readonly most: number;
  constructor(least: number, most: number) {
    this.least = least;
    this.most = most;
  }
  asymmetricMatch(value: unknown): boolean {
    return typeof value === 'number' && value >= this.least && value <= this.most;
  }
  toString(): string {
    return `${this.least}…${this.most}`;
  }
  toJSON(): string {
    return this.toString();
  }
}

function shortly(facts: Record<string, unknown>): string {
  const text = (value: unknown): string =>
    typeof value === 'object' && value !== null && !(value instanceof Range || value instanceof OneOf)
      ? Object.entries(value)
          .map(([key, each]) => `${each}×${key}`)
          .join(' ') || 'none'
      : String(value);
  return Object.entries(facts)
    .map(([name, value]) => `${name}: ${text(value)}`)
    .join(', ');
}
