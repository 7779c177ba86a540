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
  const head = ['proof', 'result', 'seconds'];
  const rows = proofs.map(({ name, result, seconds }) => [name, result, seconds.toFixed(1)]);
  const [first = 0, second = 0] = [0, 1].map((at) => Math.max(...[head, ...rows].map((row) => row[at]?.length ?? 0)));
  const lines = [head, ...rows].map(([name = '', result = '', seconds = '']) =>
    [name.padEnd(first), result.padEnd(second), seconds.padStart(head[2]?.length ?? 0)].join(' │ '),
  );
  const rule = [first, second, 7].map((width) => '─'.repeat(width)).join('─┼─');
  const count = (wanted: Proof['result']) => proofs.filter(({ result }) => result === wanted).length;
  return [lines[0], rule, ...lines.slice(1), '', `${count('passed')} passed, ${count('failed')} failed`].join('\n');
}
