import { z } from 'zod';
import { duration, size } from './values.ts';

/** What browsers may ask of a process, whoever they are. The table of all limits is in docs/operations.md. */
export const limits = z.strictObject({
  requestTimeout: duration('A request must have arrived completely after this long; slower ones get 408.').prefault(
    '5m',
  ),
  headersTimeout: duration('Its headers must have arrived after this long.').prefault('30s'),
  url: size('Largest URL of a request; more gets 414.', 1024, 256 * 1024).prefault('16KiB'),
  cookies: size(
    'Most bytes of cookies in a request; more gets 431, and for a navigation a page that offers to clear them.',
    1024,
    256 * 1024,
  ).prefault('16KiB'),
  headers: size('Most bytes of its other headers; more gets 431.', 1024, 256 * 1024).prefault('16KiB'),
  connections: z
    .number()
    .int()
    .min(1)
    .prefault(20_000)
    .meta({ description: 'Connections of browsers at the same time; more are closed.' }),
  connectionsPerAddress: z.number().int().min(1).optional().meta({
    description:
      'Of these, from one address that is not in `trustedProxies`. No bound when absent: behind a load balancer that hides them, all users have one address.',
  }),
  loginsPerMinute: z
    .number()
    .int()
    .min(1)
    .prefault(120)
    .meta({ description: 'Login starts, and callbacks, per address (IPv6: /64) and minute; more get 429.' }),
});
