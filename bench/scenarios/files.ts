import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { request } from 'undici';
import { type Measurement, measure } from '../measure.ts';
import { untilListens } from '../processes.ts';
import { profileFlags } from '../profile.ts';
import { anyCookie, browserFields } from '../requests.ts';
import type { Finding, ScenarioContext } from '../scenario.ts';
import { median, round, spread } from '../statistics.ts';
import type { Subject } from '../subject.ts';
import { startCloakroom } from '../subjects/cloakroom.ts';

const path = '/app.js';

/** A file that was asked for before, in brotli, and a bare Node server that gives the same answer, in turn. */
export async function measureFiles({ stage, options, progress }: ScenarioContext): Promise<Finding> {
  const mode = { store: 'memory', files: resolve(import.meta.dirname, '../../demo/spa') } as const;
  const ours = await startCloakroom(stage, { name: 'files', mode, flags: profileFlags(options, 'files') });
  const file = join(stage.folder, 'file.json');
  writeFileSync(file, JSON.stringify(await answerOf(ours.port)));
  const port = stage.takePort();
  const args = [join(import.meta.dirname, '../peers/bare-files.ts'), String(port), file];
  const running = stage.processes.start({ command: process.execPath, args, cores: 'proxy' });
  await untilListens(port, running, 'the bare server of files');
  const subject = (one: Pick<Subject, 'port' | 'running' | 'logFile'>): Subject => ({
    ...one,
    requests: [requestOf(one.port)],
    answersItself: true,
  });
  const [cloakroom, bare] = [subject(ours), subject({ port, running })];
  try {
    for (const one of [cloakroom, bare]) await measure(stage, one, { seconds: options.seconds + 3 }); // V8 compiles it
    const ratios: number[] = [];
    const cpu: { ours: number[]; bare: number[] } = { ours: [], bare: [] };
    for (let index = 0; index < options.rounds; index++) {
      const found: Measurement[] = [await measure(stage, cloakroom, options), await measure(stage, bare, options)];
      const [mine, floor] = found as [Measurement, Measurement];
      const fault = mine.fault ?? floor.fault;
      if (fault !== undefined) return { status: 'invalid', why: `round ${index + 1}: ${fault}`, details: {} };
      ratios.push(mine.cpuUs / floor.cpuUs);
      cpu.ours.push(mine.cpuUs);
      cpu.bare.push(floor.cpuUs);
      progress(`  a file: ${round(median(cpu.ours))} µs, × ${round(median(ratios))} of the bare server`);
    }
    return {
      status: 'measured',
      note: 'processor time of a file that is kept ÷ that of node:http with the same headers and bytes; ≤ 1.5',
      rounds: ratios.length,
      details: { ratio: spread(ratios), cpuUs: spread(cpu.ours), bare_cpuUs: spread(cpu.bare) },
    };
  } finally {
    await Promise.all([cloakroom.running.stop(), running.stop()]);
  }
}

function requestOf(port: number): string {
  const lines = Object.entries(browserFields(port, anyCookie)).map(([name, value]) => `${name}: ${value}\r\n`);
  return `GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`;
}

/** As browsers get it, once it is compressed. Without what every server in Node adds by itself. */
async function answerOf(port: number) {
  for (;;) {
    const { headers, body } = await request(`http://127.0.0.1:${port}${path}`, {
      headers: browserFields(port, anyCookie),
    });
    const bytes = Buffer.from(await body.arrayBuffer());
    const { date: _date, connection: _connection, 'keep-alive': _keepAlive, ...others } = headers;
    if (headers['content-encoding'] === 'br') return { headers: others, body: bytes.toString('base64') };
  }
}
