import type { Scenario } from './scenario.ts';
import { measureFiles } from './scenarios/files.ts';
import { measureLargeBody } from './scenarios/large-body.ts';
import { measureLatency } from './scenarios/latency.ts';
import { measureLogins } from './scenarios/logins.ts';
import { measureRefreshStorm } from './scenarios/refresh-storm.ts';
import { measureStart } from './scenarios/start.ts';
import { measureWebSockets } from './scenarios/web-sockets.ts';
import { measureWorkers } from './scenarios/workers.ts';

/** Every row that is no plain GET, in the order of the table. */
export const scenarios: readonly Scenario[] = [
  { name: 'p99', title: 'latency at the same load', needs: ['redis', 'warm'], run: measureLatency },
  { name: 'workers', title: 'two workers', needs: [], run: measureWorkers },
  { name: 'web-sockets', title: 'WebSockets', needs: [], run: measureWebSockets },
  { name: 'large-body', title: 'large bodies', needs: [], run: measureLargeBody },
  { name: 'files', title: 'files', needs: [], run: measureFiles },
  { name: 'refresh-storm', title: 'refresh storm', needs: [], run: measureRefreshStorm },
  { name: 'login', title: 'logins', needs: [], run: measureLogins },
  { name: 'start', title: 'start, and a session in Redis', needs: [], run: measureStart },
];
