import { ReplyError } from 'ioredis';
import { expect, it } from 'vitest';
import { createCircuit } from '../../../src/redis/circuit.ts';
import { askRedis, StoreUnavailableError } from '../../../src/redis/client.ts';

/** A circuit in front of a call that fails with this. */
function behind(error: () => Error) {
  const changes: boolean[] = [];
  const circuit = createCircuit({ probe: () => Promise.resolve(), onChange: (isOpen) => changes.push(isOpen) });
  const { ask } = circuit.guard({ ask: () => askRedis(() => Promise.reject(error())) });
  return { circuit, changes, ask: () => ask().catch((thrown: unknown) => thrown) };
}

it('opens after five calls without an answer', async () => {
  const { circuit, ask } = behind(() => new Error('Command timed out'));
  for (let count = 0; count < 5; count++) expect(await ask()).toBeInstanceOf(StoreUnavailableError);
  expect(circuit.isOpen()).toBe(true);
  circuit.close();
});

it.each([
  ['an error reply', () => new ReplyError('OOM command not allowed')],
  ['a bug of ours', () => new TypeError('undefined is not a function')],
  ['a value of ours that no command can have', () => new RangeError('too long')],
])('W1 stays closed for %s, however often', async (_what, error) => {
  const { circuit, changes, ask } = behind(error);
  for (let count = 0; count < 20; count++) await ask();
  expect([circuit.isOpen(), changes]).toEqual([false, []]);
});

it('W1 takes a bug of ours for no sign of life either', async () => {
  let error = () => new Error('Command timed out');
  const { circuit, ask } = behind(() => error());
  for (let count = 0; count < 9; count++) {
    error = count % 2 === 0 ? () => new Error('Command timed out') : () => new TypeError();
    await ask();
  }
  expect(circuit.isOpen()).toBe(true);
  circuit.close();
});
