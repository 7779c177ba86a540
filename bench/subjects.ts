import type { SubjectKind } from './subject.ts';
import { startApache } from './subjects/apache.ts';
import { startInMemory, startPerCall, startWarm } from './subjects/cloakroom.ts';
import { startNginxProxy } from './subjects/nginx.ts';
import { startBareProxy, startPlainHttpProxy } from './subjects/node-proxies.ts';

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
