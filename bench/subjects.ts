import type { BenchOptions } from './options.ts';
import type { Running } from './processes.ts';
import type { Stage } from './stage.ts';
import { startApache } from './subjects/apache.ts';
import { startInMemory, startPerCall, startWarm } from './subjects/cloakroom.ts';
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
  /** False: it runs on every core. */
  isPinned?: boolean;
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

/** Every proxy that answers the plain GET, in the order of the table. */
export const subjectKinds: readonly SubjectKind[] = [
  { name: 'bare', title: 'bare Node proxy: node:http + undici dispatch', isNode: true, start: startBareProxy },
  { name: 'http-proxy', title: '@fastify/http-proxy, its defaults', isNode: true, start: startPlainHttpProxy },
  { name: 'nginx', title: 'nginx, bare proxy', start: startNginxProxy },
  { name: 'mod-auth-openidc', title: 'Apache mod_auth_openidc on Redis', start: startApache },
  { name: 'memory', title: 'Cloakroom, sessions in memory', isNode: true, start: startInMemory },
  { name: 'redis', title: 'Cloakroom, Redis asked on each call', isNode: true, start: startPerCall },
  { name: 'warm', title: 'Cloakroom, Redis and a warm near cache', isNode: true, start: startWarm },
];
