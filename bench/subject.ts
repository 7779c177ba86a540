import type { BenchOptions } from './options.ts';
import type { Running } from './processes.ts';
import type { Stage } from './stage.ts';

/** A proxy that runs and can be loaded. */
export interface Subject {
  port: number;
  running: Running;
  /** A complete GET of 1 KB for each of its sessions. */
  requests: string[];
  /** Grows while it runs; emptied before each measurement. */
  logFile?: string;
  /** False: it runs on every core. */
  isPinned?: boolean;
  /** It asks no upstream. */
  answersItself?: true;
  /** Fewer for each request mean that it does not do what its row says. */
  leastRedisCommands?: number;
  /** And so do more. */
  mostRedisCommands?: number;
}

/** Why a row has no numbers. */
export interface Absent {
  absent: string;
}

export interface SubjectKind {
  /** Of the row, for `--only`. */
  name: string;
  title: string;
  /** V8 has to compile it before it is measured. */
  isNode?: boolean;
  start(stage: Stage, options: BenchOptions): Promise<Subject | Absent>;
}
