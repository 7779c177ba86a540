import { it as base, expect } from 'vitest';
import { type DemoOptions, startDemo } from '../../support/demo.ts';
import { createVisitor, launchChromium } from './visitor.ts';

/**
 * A test with a demo and a visitor of its own, in the one Chromium of its file. It fails also for what
 * `Visitor.leave()` finds, and for a line of level error in the demo's log.
 */
export const it = base
  // biome-ignore lint/correctness/noEmptyPattern: Vitest reads from the pattern what a fixture needs
  .extend('chromium', { scope: 'file' }, async ({}, { onCleanup }) => {
    const chromium = await launchChromium();
    onCleanup(() => chromium.close());
    return chromium;
  })
  // For stories about an API that the demo has not.
  .extend('demoConfig', (): DemoOptions['config'] => undefined)
  // For stories about another provider.
  .extend(
    'demoOptions',
    async ({ demoConfig }): Promise<DemoOptions> => (demoConfig === undefined ? {} : { config: demoConfig }),
  )
  .extend('demo', async ({ demoOptions }, { onCleanup }) => {
    const demo = await startDemo(demoOptions);
    onCleanup(async () => {
      await demo.stop();
      expect(demo.log.errors()).toEqual([]);
    });
    return demo;
  })
  .extend('visitor', async ({ chromium, demo }, { onCleanup }) => {
    const visitor = await createVisitor(chromium, demo);
    onCleanup(() => visitor.leave());
    return visitor;
  });
