import type { Reporter, TestModule } from 'vitest/node';
import { notOffered } from './not-offered.ts';

/** One proof: a test, or a file that failed as a whole. */
export interface Proof {
  name: string;
  result: 'passed' | 'failed' | 'skipped' | 'not offered by this server';
  /** Of what was played. */
  seconds?: number;
}

/** The vitest reporter of `npm run test:world`: when all is over, every proof in a table, and the sums alone on a line. */
export default class TableReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const proofs = modules.flatMap(proofsOf);
    if (unhandledErrors.length > 0) proofs.push({ name: 'errors outside of any test', result: 'failed', seconds: 0 });
    for (const [server, names] of Object.entries(notOffered)) {
      if (modules.every((module) => fileOf(module) !== server)) continue;
      for (const name of names) proofs.push({ name: `${server}: ${name}`, result: 'not offered by this server' });
    }
    process.stdout.write(`\n${formatProofs(proofs)}\n`);
  }
}

/** The name of a test file, without its ending. */
const fileOf = ({ relativeModuleId }: TestModule) =>
  relativeModuleId.replace(/^test\/world\//, '').replace(/\.test\.ts$/, '');

/** What failed outside of the tests, such as an import, or a hook that takes everything down, counts as a proof too. */
function proofsOf(module: TestModule): Proof[] {
  const file = fileOf(module);
  const proofs = [...module.children.allTests()].map((test): Proof => {
    const { state } = test.result();
    // Still pending when the run was interrupted: not shown, so failed.
    const result = state === 'pending' ? 'failed' : state;
    return { name: `${file}: ${test.fullName}`, result, seconds: (test.diagnostic()?.duration ?? 0) / 1000 };
  });
  const hasFailure = proofs.some(({ result }) => result === 'failed');
  return module.ok() || hasFailure ? proofs : [...proofs, { name: file, result: 'failed', seconds: 0 }];
}

/** The table, and a last line such as `9 passed, 0 failed`. */
export function formatProofs(proofs: Proof[]): string {
  const width = Math.max(...['proof', ...proofs.map(({ name }) => name)].map((name) => name.length));
  const resultWidth = Math.max(...['skipped', ...proofs.map(({ result }) => result)].map((result) => result.length));
  const line = (name: string, result: string, seconds: string) =>
    [name.padEnd(width), result.padEnd(resultWidth), seconds.padStart('seconds'.length)].join(' │ ');
  const rows = proofs.map(({ name, result, seconds }) => line(name, result, seconds?.toFixed(1) ?? ''));
  const rule = ['─'.repeat(width), '─'.repeat(resultWidth), '─'.repeat(7)].join('─┼─');
  const count = (wanted: Proof['result']) => proofs.filter(({ result }) => result === wanted).length;
  const sums = `${count('passed')} passed, ${count('failed')} failed`;
  return [line('proof', 'result', 'seconds'), rule, ...rows, '', sums].join('\n');
}
