import { EventEmitter } from 'node:events';
import type { ServerResponse } from 'node:http';
import { describe, expect, it } from 'vitest';
import { createLine } from '../../../src/upstream/line.ts';

/** As much of an answer as a line looks at: whether and when its browser leaves. */
function browser() {
  const emitter = Object.assign(new EventEmitter(), { destroyed: false });
  const response = emitter as unknown as ServerResponse;
  const leave = () => {
    emitter.destroyed = true;
    emitter.emit('close');
  };
  return { response, leave, listeners: () => emitter.listenerCount('close') };
}

describe('a line', () => {
  it('lets as many in as there are places, and the others in their order', async () => {
    const line = createLine(2, 10);
    expect([line.enter(), line.enter(), line.enter()]).toEqual([true, true, false]);
    const order: number[] = [];
    const waits = [1, 2, 3].map((number) => line.wait(browser().response, 1000).then(() => order.push(number)));
    for (const _ of waits) line.leave();
    await Promise.all(waits);
    expect(order).toEqual([1, 2, 3]);
    expect(line.enter()).toBe(false); // the places went to those who waited
    line.leave();
    expect(line.enter()).toBe(true);
  });

  it('T95 forgets a browser that leaves, and a browser that had left before', async () => {
    const line = createLine(1, 10);
    line.enter();
    const [first, second, gone] = [browser(), browser(), browser()];
    const waits = [line.wait(first.response, 1000), line.wait(second.response, 1000)];
    first.leave();
    line.leave();
    expect(await Promise.all(waits)).toEqual(['left', 'entered']);
    gone.leave();
    expect(await line.wait(gone.response, 1000)).toBe('left');
    expect([first, second, gone].map((one) => one.listeners())).toEqual([0, 0, 0]);
    line.leave();
    expect(line.enter()).toBe(true);
  });

  it('T98 lets nobody wait longer than told, and loses no place by it', async () => {
    const line = createLine(1, 10);
    line.enter();
    const late = browser();
    expect(await line.wait(late.response, 20)).toBe('late');
    expect(late.listeners()).toBe(0);
    line.leave();
    expect([line.enter(), line.enter()]).toEqual([true, false]);
  });

  it('T98 lets no more wait than told', async () => {
    const line = createLine(1, 2);
    line.enter();
    const waits = [1, 2, 3].map(() => line.wait(browser().response, 1000));
    expect(await waits[2]).toBe('full');
    expect(line.load).toBe(3);
    line.leave();
    line.leave();
    expect(await Promise.all(waits)).toEqual(['entered', 'entered', 'full']);
  });

  it('T98 sends all away who wait for what is not there any more, and keeps its places', async () => {
    const line = createLine(1, 10);
    line.enter();
    const waiting = [browser(), browser()];
    const waits = waiting.map(({ response }) => line.wait(response, 1000));
    line.dismiss();
    expect(await Promise.all(waits)).toEqual(['dismissed', 'dismissed']);
    expect(waiting.map((one) => one.listeners())).toEqual([0, 0]);
    expect([line.hasFree, line.load]).toEqual([false, 1]);
    line.leave();
    expect([line.hasFree, line.load]).toEqual([true, 0]);
  });
});
