import { z } from 'zod';
import { duration, serverKey, size } from './values.ts';

export const listen = z
  .strictObject({
    host: z.string().prefault('0.0.0.0').meta({ description: 'Address to listen on.' }),
    port: z.number().int().min(0).max(65535).prefault(8080),
    tls: z
      .strictObject({
        certFile: z.string().min(1).meta({
          description: 'PEM file with the certificate of `publicUrl`, then its intermediates (`fullchain.pem`).',
        }),
        keyFile: z.string().min(1).meta({ description: 'PEM file with its private key, without a passphrase.' }),
      })
      .optional()
      .meta({
        description:
          'Speak https (TLS 1.2 or later) where no TLS terminator is in front. Both files are read again when they change. Plain http when absent.',
      }),
  })
  .prefault({})
  .meta({ description: 'Where browsers (or the TLS terminator in front) connect.' });

export const ops = z
  .strictObject({
    host: z
      .string()
      .prefault('127.0.0.1')
      .meta({ description: 'Address of the ops listener; keep it off the public network.' }),
    port: z.number().int().min(0).max(65535).prefault(9090),
    adminKey: serverKey('Bearer key of `/admin`; without it there is no admin API.').optional(),
  })
  .prefault({})
  .meta({ description: 'The second listener: `/livez`, `/readyz`, `/metrics`.' });

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
