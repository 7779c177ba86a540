import { describe, expect, it } from 'vitest';
import { createBreaker } from '../../../src/upstream/breaker.ts';

/** A breaker that opens after 3 failures, for 1000 ms, and a clock that is moved by hand. */
function open(clockMs = 100_000) {
  let now = clockMs;
  const changes: boolean[] = [];
  const breaker = createBreaker({
    failures: 3,
    openFor: 1000,
    onChange: (isOpen) => changes.push(isOpen),
    now: () => now,
  });
  return {
    breaker,
    changes,
    pass: (ms: number) => {
      now += ms;
    },
    now: () => now,
    /** Connections that fail now. */
    refuse(times = 1) {
      for (let count = 0; count < times; count++) breaker.failed(now, false);
    },
    /** A request that was sent so long ago fails now. */
    silent: (agoMs: number) => breaker.failed(now - agoMs, true),
  };
}

describe('a breaker', () => {
  it('opens after so many failed connections in a row, and says so once', () => {
    const { breaker, changes, refuse } = open();
    refuse(2);
    breaker.answered();
    refuse(2);
    expect(breaker.isOpen).toBe(false);
    refuse();
    expect(breaker.isOpen).toBe(true);
    refuse(5);
    expect(changes).toEqual([true]);
  });

  it('counts requests that nobody answered while it was silent for everybody', () => {
    const { breaker, silent, pass } = open();
    breaker.answered();
    pass(5000);
    for (let count = 0; count < 3; count++) silent(2000);
    expect(breaker.isOpen).toBe(true);
  });

  it('T98 does not let one user’s slow requests shut what answers others', () => {
    const { breaker, silent, pass } = open();
    for (let count = 0; count < 100; count++) {
      pass(40_000);
      breaker.answered(); // one answer to anybody within the minute that each of them took
      pass(20_000);
      for (let parallel = 0; parallel < 10; parallel++) silent(60_000);
    }
    expect(breaker.isOpen).toBe(false);
  });

  it('T98 does not let one user’s crashing requests shut what answers others', () => {
    const { breaker, silent, pass } = open();
    breaker.answered();
    pass(900); // the last answer is less than a second ago
    for (let count = 0; count < 100; count++) silent(1);
    expect(breaker.isOpen).toBe(false);
  });

  it('lets one request at a time try, and doubles the pause between them up to sixteen times', () => {
    const { breaker, refuse, pass } = open();
    refuse(3);
    for (const pause of [1000, 2000, 4000, 8000, 16_000, 16_000, 16_000]) {
      const wait = breaker.untilTrial();
      expect(wait).toBeGreaterThanOrEqual(pause * 0.75);
      expect(wait).toBeLessThanOrEqual(pause * 1.25);
      expect(breaker.takeTrial()).toBe(false);
      pass(wait);
      expect(breaker.takeTrial()).toBe(true);
      expect(breaker.takeTrial()).toBe(false); // also while the trial before it hangs
    }
  });

  it('gives replicas different pauses', () => {
    const pauses = Array.from({ length: 20 }, () => {
      const { breaker, refuse } = open();
      refuse(3);
      return breaker.untilTrial();
    });
    expect(new Set(pauses).size).toBeGreaterThan(15);
  });

  it('closes with any answer, and starts from the first pause the next time', () => {
    const { breaker, changes, refuse, pass } = open();
    refuse(3);
    for (let count = 0; count < 5; count++) {
      pass(20_000);
      breaker.takeTrial();
    }
    breaker.answered(); // also to a request from before
    expect([breaker.isOpen, changes]).toEqual([false, [true, false]]);
    refuse(3);
    expect(breaker.untilTrial()).toBeLessThanOrEqual(1250);
  });

  it('T98 lets the next one try at once when a trial was given up by its browser', () => {
    const { breaker, refuse, pass, now } = open();
    refuse(3);
    breaker.abandoned(now() - 1); // a request from before it opened is no trial
    expect(breaker.takeTrial()).toBe(false);
    pass(1250);
    const trialAt = now();
    expect(breaker.takeTrial()).toBe(true);
    pass(10);
    breaker.abandoned(trialAt);
    expect(breaker.takeTrial()).toBe(true);
  });

  it('W1 does not make the pause longer for trials that browsers gave up', () => {
    const { breaker, refuse, pass, now } = open();
    refuse(3);
    pass(1250);
    for (let count = 0; count < 10; count++) {
      expect(breaker.takeTrial()).toBe(true);
      breaker.abandoned(now());
    }
    expect(breaker.takeTrial()).toBe(true);
    expect(breaker.untilTrial()).toBeLessThanOrEqual(2500); // the second pause, as if it were the first trial
  });
});
