import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { request } from 'undici';
import { freePort } from '../test/support/redis.ts';
import { findProgram } from './machine.ts';
import { type Processes, type Running, untilListens } from './processes.ts';

/** What stands behind every proxy. */
export interface Upstream {
  kind: 'nginx' | 'node';
  port: number;
  url: string;
  /** The same, but 401 without a bearer token. */
  guardedUrl: string;
  running: Running;
  /** Requests that arrived until now, this question included. */
  count(): Promise<number>;
}

/** 1 KB of JSON. */
const body = JSON.stringify({ orders: 'x'.repeat(1024 - '{"orders":""}'.length) });

/** Starts nginx, or a bare socket server of our own where there is none. */
export async function startUpstream(processes: Processes, folder: string): Promise<Upstream> {
  const [port, guardedPort] = [await freePort(), await freePort()];
  const nginx = findProgram('nginx');
  const running =
    nginx === undefined
      ? processes.start({
          command: process.execPath,
          args: [join(import.meta.dirname, 'peers/upstream.ts'), String(port), String(guardedPort), body],
          cores: 'rest',
        })
      : startNginx({
          processes,
          nginx,
          folder,
          template: 'nginx-upstream.conf',
          cores: 'rest',
          values: { PORT: String(port), GUARDED_PORT: String(guardedPort), BODY: body },
        });
  await untilListens(port, running, 'the upstream');
  const url = `http://127.0.0.1:${port}`;
  return {
    kind: nginx === undefined ? 'node' : 'nginx',
    port,
    url,
    guardedUrl: `http://127.0.0.1:${guardedPort}`,
    running,
    async count() {
      const answer = await request(`${url}/bench/count`);
      const [, requests = ''] = /requests\s+\d+\s+\d+\s+(\d+)/.exec(await answer.body.text()) ?? [];
      return Number(requests);
    },
  };
}

export interface NginxOptions {
  processes: Processes;
  /** Path of the program. */
  nginx: string;
  folder: string;
  template: string;
  cores: 'proxy' | 'rest';
  values: Record<string, string>;
}

export function startNginx({ processes, nginx, folder, template, cores, values }: NginxOptions): Running {
  const user = process.getuid?.() === 0 ? 'user root;' : '';
  const file = fillTemplate(template, folder, { FOLDER: folder, USER: user, ...values });
  return processes.start({ command: nginx, args: ['-p', folder, '-e', 'stderr', '-c', file], cores });
}

/** Writes a configuration of `peers/` with its `@NAMES@` filled in; returns the path. */
export function fillTemplate(template: string, folder: string, values: Record<string, string>): string {
  const text = readFileSync(join(import.meta.dirname, 'peers', template), 'utf8');
  const filled = text.replace(/@([A-Z_]+)@/g, (_all, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Error(`${template} needs ${name}`);
    return value;
  });
  const file = join(folder, template);
  writeFileSync(file, filled);
  return file;
}
