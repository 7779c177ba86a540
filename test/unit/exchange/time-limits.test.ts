import { describe, expect, it } from 'vitest';
import { dropLimits, keepLimits, type Limited } from '../../../src/exchange/time-limits.ts';
import { until } from '../../support/wait.ts';

const counter = (onLook?: () => void) => {
  const limited: Limited & { looks: number } = {
    place: 0,
    looks: 0,
    look() {
      limited.looks++;
      onLook?.();
    },
  };
  return limited;
};

describe('limits of time', () => {
  it('are looked at for all that are under way and for nobody else, whoever left before', async () => {
    const all = Array.from({ length: 50 }, () => counter());
    for (const one of all) keepLimits(one);
    const gone = all.filter((_, index) => index % 3 === 0 || index > 45);
    for (const one of gone) dropLimits(one);
    for (const one of gone) dropLimits(one); // once more does no harm
    const left = all.filter((one) => !gone.includes(one));
    await until(() => left.every(({ looks }) => looks > 0));
    expect(gone.map(({ looks }) => looks)).toEqual(gone.map(() => 0));
    expect(new Set(left.map(({ looks }) => looks)).size).toBe(1);
    for (const one of left) dropLimits(one);
  });

  it('may end, and others begin, while they are looked at', async () => {
    const late = counter();
    const ending = counter(() => {
      dropLimits(ending);
      keepLimits(late);
    });
    const all = [counter(), ending, counter(), counter()];
    for (const one of all) keepLimits(one);
    await until(() => late.looks > 0);
    expect(all.map(({ looks }) => looks)).toEqual([2, 1, 2, 2]);
    for (const one of [...all, late]) dropLimits(one);
  });

  it('are looked at again after nothing was under way', async () => {
    const [first, second] = [counter(), counter()];
    keepLimits(first);
    await until(() => first.looks > 0);
    dropLimits(first);
    keepLimits(second);
    await until(() => second.looks > 1);
    expect(first.looks).toBe(1);
    dropLimits(second);
  });
});
