import type { BenchOptions } from './options.ts';
import type { Measured } from './rounds.ts';
import type { Row } from './row.ts';
import type { Stage } from './stage.ts';

export interface ScenarioContext {
  stage: Stage;
  options: BenchOptions;
  /** The proxies of the rounds, with what was measured. */
  measured: Measured[];
  progress: (line: string) => void;
}

/** What a scenario found, but for its name and title; `details.ratio` is the one of `ratios`, if it has one. */
export type Finding = Omit<Row, 'name' | 'title'>;

/** A row that measures something else than the plain GET. */
export interface Scenario {
  name: string;
  title: string;
  /** Rows that must be measured for it. */
  needs: readonly string[];
  run(context: ScenarioContext): Promise<Finding>;
}

/** What comes of `name`, when it was measured and is valid. */
export function subjectNamed(measured: Measured[], name: string) {
  const found = measured.find(({ kind }) => kind.name === name);
  if (found === undefined || 'absent' in found.subject || found.rounds.length === 0) return undefined;
  if (found.rounds.some(({ fault }) => fault !== undefined)) return undefined;
  return { subject: found.subject, rounds: found.rounds, title: found.kind.title };
}
