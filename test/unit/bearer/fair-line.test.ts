import { describe, expect, it } from 'vitest';
import { createFairLine, type FairLine, LineFullError } from '../../../src/bearer/fair-line.ts';
import { until } from '../../support/wait.ts';

/** As many as may be with the issuer at the same time. */
const places = 16;

/** Questions that the issuer leaves open until they are released. */
function openQuestions(line: FairLine, count: number) {
  const open: (() => void)[] = [];
  const ask = (client: string) =>
    line(client, () => new Promise<void>((resolve) => open.push(resolve))).then(
      () => 'answered',
      (error: Error) => error.name,
    );
  return { open, outcomes: Array.from({ length: count }, (_, index) => ask(`client-${index}`)) };
}

/** How many questions are with the issuer when far more are asked at once. */
async function freePlaces(line: FairLine): Promise<number> {
  const { open, outcomes } = openQuestions(line, places * 2);
  await until(() => open.length > 0);
  const free = open.length;
  while (open.length > 0) {
    for (const release of open.splice(0)) release();
    await new Promise(setImmediate);
  }
  await Promise.all(outcomes);
  return free;
}

describe('W9 the line of one issuer', () => {
  it('W9 whoever waits too long is refused while the issuer still thinks, and holds no place', async () => {
    const line = createFairLine(10);
    for (let round = 0; round < places + 1; round++) {
      const { open, outcomes } = openQuestions(line, places + 5);
      // All of the line is too old before anybody is answered.
      expect(await Promise.all(outcomes.slice(places))).toEqual(Array(5).fill('LineFullError'));
      for (const release of open) release();
      expect(await Promise.all(outcomes.slice(0, places))).toEqual(Array(places).fill('answered'));
      expect(await line('another', async () => 'answered')).toBe('answered');
    }
    expect(await freePlaces(line)).toBe(places);
  });

  it('W9 loses no place, whether its questions are answered, fail, come too late or have to leave', async () => {
    const line = createFairLine(2000);
    for (let round = 0; round < 20; round++) {
      const { open, outcomes } = openQuestions(line, places + 3);
      const failing = line('client-0', () => Promise.reject(new Error('no answer'))).catch((error) => error.message);
      const flood = Array.from({ length: 200 }, () =>
        line('flood', async () => undefined).catch((error) => error.name),
      );
      const guest = line('guest', async () => 'answered');
      expect(await Promise.race(flood.slice(-1))).toBe('LineFullError');
      while (open.length > 0) {
        for (const release of open.splice(0)) release();
        await new Promise(setImmediate);
      }
      expect(await Promise.all(outcomes)).toEqual(outcomes.map(() => 'answered'));
      expect(await guest).toBe('answered');
      expect(await failing).toBe('no answer');
      await Promise.all(flood);
    }
    expect(await freePlaces(line)).toBe(places);
  });

  it('W9 forgets who gave up: the next in turn starts, and one of many makes room for another client', async () => {
    const line = createFairLine(10_000);
    const { open, outcomes } = openQuestions(line, places);
    const order: string[] = [];
    const enter = (client: string) =>
      line(client, async () => {
        order.push(client);
      });
    const many = Array.from({ length: 128 }, () => enter('many').catch((error) => (error as Error).name));
    await expect(enter('many')).rejects.toBeInstanceOf(LineFullError);
    const one = enter('one');
    expect(await many.at(-1)).toBe('LineFullError');
    for (const release of open) release();
    await Promise.all([...outcomes, ...many, one]);
    expect(order.indexOf('one')).toBeLessThanOrEqual(1);
    expect(order).toHaveLength(128);
  });
});
