import { findProgram } from '../machine.ts';
import { untilListens } from '../processes.ts';
import { anyCookie, buildRequests } from '../requests.ts';
import type { Stage } from '../stage.ts';
import type { Absent, Subject } from '../subject.ts';
import { startNginx } from '../upstream.ts';

/** nginx between load and upstream, `peers/nginx-proxy.conf`. */
export async function startNginxProxy({ processes, folder, upstream, takePort }: Stage): Promise<Subject | Absent> {
  const nginx = findProgram('nginx');
  if (nginx === undefined) return { absent: 'not installed: apt-get install nginx-light' };
  const port = takePort();
  const values = { PORT: String(port), UPSTREAM: `127.0.0.1:${upstream.port}` };
  const running = startNginx({ processes, nginx, folder, template: 'nginx-proxy.conf', cores: 'proxy', values });
  await untilListens(port, running, 'nginx');
  return { port, running, requests: buildRequests(port, [anyCookie]) };
}
