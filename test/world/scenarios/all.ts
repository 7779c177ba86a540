import type { RealWorld } from '../support/real-world.ts';
import { apis } from './apis.ts';
import { bearer } from './bearer.ts';
import { ends } from './ends.ts';
import { logins } from './logins.ts';
import { refreshes } from './refreshes.ts';
import { stepUp } from './step-up.ts';
import { trouble } from './trouble.ts';

/** What every authorization server plays that offers it. One that has not got something stands in `not-offered.ts`. */
export const scenarios = {
  ...logins,
  ...apis,
  ...refreshes,
  ...stepUp,
  ...bearer,
  ...ends,
  ...trouble,
} satisfies Record<string, (world: RealWorld) => Promise<void>>;

export type ScenarioName = keyof typeof scenarios;
