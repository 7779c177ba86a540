import { z } from 'zod';
import { duration } from './values.ts';

const target = z
  .string()
  .refine(
    (text) => (/^https?:\/\/[^/?#@]+\/?$/.test(text) && URL.canParse(text)) || /^unix:\/[^\0?#]+$/.test(text),
    'must be an origin such as http://orders:8080, or unix:/path/to/socket: put a path into rewritePath',
  )
  // The kernel cuts longer ones off, and connects to another file.
  .refine((text) => !text.startsWith('unix:') || Buffer.byteLength(text) - 5 <= 107, {
    error: 'is longer than the 107 bytes that the path of a socket may have: move the socket',
  });

/** Where an API runs: one target, or several that are alike; none for one that we decide about and never forward to. */
export const upstream = z
  .union([target, z.array(target).min(1).max(32)], {
    error: 'must be an origin such as http://orders:8080, or a list of up to 32 of them',
  })
  .transform((value) => [value].flat().map((text) => (text.startsWith('unix:') ? text : new URL(text).origin)))
  .default([])
  .meta({
    description:
      'Origin of the API, `unix:/path/to/socket` (its `Host` is `localhost`), or a list of up to 32 of them that are alike. Nothing in a request can change it. Required, except for an API that only other proxies forward to (`forwardAuth`).',
    examples: ['http://orders:8080'],
  });

export const balance = z.enum(['round-robin', 'least-outstanding']).prefault('round-robin').meta({
  description:
    'Which of several targets is asked: each in turn, or the one with the fewest requests under way from this replica.',
});

export const affinity = z.enum(['session']).optional().meta({
  description:
    'Instead of `balance`: `session` asks the same of several targets for all calls and WebSockets of a session (of a caller with a token, of an address without either), and another only while that one is left out.',
});

export const connections = z.strictObject({
  idle: duration(
    'How long a connection is kept for the next request, if the API does not say less (`Keep-Alive: timeout=`): less than it waits itself.',
  ).prefault('1500ms'),
  life: duration(
    'The age at which a connection is replaced by a new one, once its request has ended: after that long nobody is asked any more whom the DNS name does not lead to.',
  ).prefault('5m'),
});

export const breaker = z.strictObject({
  failures: z.number().int().min(1).max(1_000_000).prefault(5).meta({
    description:
      'Requests in a row without an answer (no connection, a timeout, a reset) after which a target is left out.',
  }),
  openFor: duration(
    'How long it is left out before one request may try it; doubles with each, up to 16 times.',
  ).prefault('1s'),
  statuses: z.array(z.number().int().min(500).max(599)).prefault([]).meta({
    description: 'Statuses that count as no answer, such as 502, 503, 504 of a load balancer in front of the API.',
  }),
});

export const health = z.strictObject({
  path: z
    .string()
    .regex(/^\/[\x21\x22\x24-\x7e]*$/, 'must be a path such as /healthz')
    .meta({
      description: 'Path at the target that is asked, without a token; 2xx is healthy.',
      examples: ['/healthz'],
    }),
  interval: duration('Between two checks of a target, by each replica.').prefault('10s'),
  timeout: duration('How long a check may take.').prefault('2s'),
  unhealthyAfter: z.number().int().min(1).max(100).prefault(3).meta({
    description: 'Failed checks in a row after which a target is left out.',
  }),
  healthyAfter: z.number().int().min(1).max(100).prefault(2).meta({
    description: 'Passed checks in a row after which it is asked again.',
  }),
});

export const clientCertificate = z.strictObject({
  certFile: z.string().min(1).meta({ description: 'PEM file with our certificate and its intermediates.' }),
  keyFile: z.string().min(1).meta({ description: 'PEM file with its private key, without a passphrase.' }),
});
