import type { Reporter, TestModule } from 'vitest/node';

/** One proof: a test, or a file that failed as a whole. */
export interface Proof {
  name: string;
  result: 'passed' | 'failed' | 'skipped';
  seconds: number;
}

/** The vitest reporter of `npm run test:world`: when all is over, every proof in a table, and the sums alone on a line. */
export default class TableReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    const proofs = modules.flatMap(proofsOf);
    if (unhandledErrors.length > 0) proofs.push({ name: 'errors outside of any test', result: 'failed', seconds: 0 });
    process.stdout.write(`\n${formatProofs(proofs)}\n`);
  }
}

/** What failed outside of the tests, such as an import, or a hook that takes everything down, counts as a proof too. */
function proofsOf(module: TestModule): Proof[] {
  const file = module.relativeModuleId.replace(/^test\/world\//, '').replace(/\.test\.ts$/, '');
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
  const line = (name: string, result: string, seconds: string) =>
    [name.padEnd(width), result.padEnd('skipped'.length), seconds.padStart('seconds'.length)].join(' │ ');
  const rows = proofs.map(({ name, result, seconds }) => line(name, result, seconds.toFixed(1)));
  const rule = ['─'.repeat(width), '─'.repeat(7), '─'.repeat(7)].join('─┼─');
  const count = (wanted: Proof['result']) => proofs.filter(({ result }) => result === wanted).length;
  const sums = `${count('passed')} passed, ${count('failed')} failed`;
  return [line('proof', 'result', 'seconds'), rule, ...rows, '', sums].join('\n');
}
