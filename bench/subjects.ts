import type { BenchOptions } from './options.ts';
import type { Running } from './processes.ts';
import type { Stage } from './stage.ts';
import { startApache } from './subjects/apache.ts';
import { startCloakroom } from './subjects/cloakroom.ts';
import { startNginxProxy } from './subjects/nginx.ts';
import { startBareProxy, startPlainHttpProxy } from './subjects/node-proxies.ts';

/** A proxy that runs and can be loaded. */
export interface Subject {
  port: number;
  running: Running;
  /** A complete GET of 1 KB for each of its sessions. */
  requests: string[];
  /** Grows while it runs; emptied before each measurement. */
  logFile?: string;
  /** What a reader of its numbers must know. */
  note?: string;
}

/** Why a row has no numbers. */
export interface Absent {
  absent: string;
}

export interface SubjectKind {
  /** Of the row, for `--only`. */
  name: string;
  title: string;
  start(stage: Stage, options: BenchOptions): Promise<Subject | Absent>;
}

/** Every proxy that answers the plain GET, in the order of the table. */
export const subjectKinds: readonly SubjectKind[] = [
  { name: 'bare', title: 'bare Node proxy: node:http + undici dispatch', start: startBareProxy },
  { name: 'http-proxy', title: '@fastify/http-proxy, its defaults', start: startPlainHttpProxy },
  { name: 'nginx', title: 'nginx, bare proxy', start: startNginxProxy },
  { name: 'mod-auth-openidc', title: 'Apache mod_auth_openidc on Redis', start: startApache },
  { name: 'memory', title: 'Cloakroom, sessions in memory', start: startCloakroom({ store: 'memory' }) },
  { name: 'redis', title: 'Cloakroom, Redis read on each call', start: startCloakroom({ store: 'redis' }) },
];
