import { z } from 'zod';
import { duration, isLoopbackHost, size } from './values.ts';

/** As browsers write it in the header of the same name (RFC 6454 §6.2): compared as text, so only that form can match. */
const origin = z
  .string()
  .refine(
    (text) => /^https?:\/\/[a-z0-9.:[\]-]+$/.test(text) && URL.canParse(text) && new URL(text).origin === text,
    'is not an origin: write scheme, host and port and nothing else, in lower case and without a default port, such as https://app.example.com. There are no wildcards',
  )
  .refine(
    (text) => !text.startsWith('http:') || !URL.canParse(text) || isLoopbackHost(new URL(text).hostname),
    'must be https: whoever is on the way could put a page on a plain-http origin. Only loopback hosts may be http',
  );

const count = z.number().int().min(1).max(100_000);

/** WebSockets of one API. */
export const websocket = z
  .strictObject({
    origins: z
      .array(origin)
      .min(1)
      .optional()
      .meta({
        description:
          'Origins of the pages that may open one, exactly as in the `Origin` header; the frontend’s own when absent. A list replaces that default.',
        examples: [['https://app.example.com']],
      }),
    idle: duration('One that carried no message this long, in neither direction, is closed (4408).', 1000).prefault(
      '5m',
    ),
    maxMessage: size('Largest message in either direction; more closes it (1009).', 1024, 256 * 1024 ** 2).prefault(
      '1MiB',
    ),
    connectionsPerSession: count
      .prefault(16)
      .meta({ description: 'Open at the same time for one session, per replica; more get 429.' }),
    connections: count.prefault(10_000).meta({
      description:
        'Open at the same time for this API, per replica; more get 503. Of these, callers without a session may have a tenth from one address.',
    }),
    outliveToken: z.boolean().prefault(false).meta({
      description:
        '`true`: stays open when the access token that it was opened with expires. Otherwise it is closed then (4401), and the page opens another with the next token.',
    }),
  })
  .optional()
  .meta({
    description: 'Offers WebSockets; `{}` takes the defaults. Without it every WebSocket handshake gets 400.',
  });
