import { z } from 'zod';
import { type FrameMessage, silentOutcomes } from '../login/silent.ts';

// What the endpoints answer: the route schemas and docs/endpoints.md are made from these.

const instant = (description: string) =>
  z
    .number()
    .int()
    .meta({ description: `${description} Epoch seconds.` });
const seconds = (description: string) =>
  z
    .number()
    .int()
    .meta({ description: `${description} Seconds on the server’s clock.` });

const silentLogin = z.enum(silentOutcomes).optional().meta({
  description:
    'How a silent login ended that logged nobody in, for a minute. While it stands here, begin no other by yourself.',
});

export const anonymousShape = z
  .object({ authenticated: z.literal(false), loginUrl: z.string(), silentLogin })
  .meta({ description: 'Nobody is logged in.' });

export const authenticatedShape = z
  .object({
    authenticated: z.literal(true),
    user: z.record(z.string(), z.unknown()).meta({ description: 'The claims listed in `session.claims`.' }),
    session: z.object({
      createdAt: instant('When the user logged in.'),
      expiresAt: instant('When the session ends in any case.'),
      idleExpiresAt: instant('When it ends if it is not used.'),
      expiresInSeconds: seconds('Until `expiresAt`.'),
      idleExpiresInSeconds: seconds('Until `idleExpiresAt`.'),
    }),
    token: z.object({
      expiresAt: instant('When the access token expires; Cloakroom refreshes it before.'),
      expiresInSeconds: seconds('Until then.'),
      refreshable: z
        .boolean()
        .meta({ description: 'Is there a refresh token? Without one the session can’t outlive the access token.' }),
      scope: z.string().meta({ description: 'Granted scopes.' }),
    }),
    loginUrl: z.string(),
    silentLogin,
    logoutUrl: z.string().meta({ description: 'A link that logs out; it carries the session’s own `sid` as proof.' }),
  })
  .meta({ description: 'Somebody is logged in.' });

export const logoutShape = z
  .object({
    endSessionUrl: z.string().nullable().meta({
      description:
        'Go there, by navigation, to log out at the authorization server too; null when it has no such page.',
    }),
  })
  .meta({ description: 'The session has ended.' });

export const sessionsShape = z
  .object({
    sessions: z.array(
      z.object({
        id: z.string().meta({ description: 'For `DELETE /bff/sessions/:id`. Opens nothing.' }),
        current: z.boolean().meta({ description: 'Is it the one of this browser?' }),
        createdAt: instant('When the user logged in there.'),
        lastSeenAt: instant('When it was last used, to a twentieth of the idle timeout.'),
        expiresAt: instant('When it ends in any case.'),
        device: z.string().meta({ description: 'Browser and system, coarsely.' }),
      }),
    ),
  })
  .meta({ description: 'The live sessions of this user, oldest first.' });

export const silentLoginShape: z.ZodType<FrameMessage> = z
  .object({
    source: z.literal('bff-silent-login'),
    isLoggedIn: z.boolean().meta({ description: 'Did this login log somebody in?' }),
    outcome: z.enum(['logged_in', ...silentOutcomes]).meta({
      description:
        '`other_user`: of another user than the session, which is kept. `failed`: for whatever other reason.',
    }),
    code: z.string().optional().meta({ description: 'The error, where it was one: see docs/errors.md.' }),
  })
  .meta({ description: 'What the frame of a silent login says to the page around it.' });

export const endedShape = z
  .object({ ended: z.number().int().meta({ description: 'How many sessions this ended.' }) })
  .meta({ description: 'Sessions have ended.' });

export const problemShape = z
  .object({
    type: z.string(),
    code: z.string().meta({ description: 'See docs/errors.md.' }),
    title: z.string(),
    status: z.number().int(),
    detail: z.string().optional().meta({
      description: 'What it was about this request, for developers: a refused Origin or Host, and what is expected.',
    }),
    requestId: z.string(),
    loginUrl: z
      .string()
      .optional()
      .meta({ description: 'Present where logging in helps: ready to go to, also with `return_to` added.' }),
  })
  .meta({ description: 'An error of Cloakroom itself (RFC 9457).' });

/** Every shape that browsers see: docs/endpoints.md and packages/client are made from this list. */
export const answers: { name: string; title: string; shape: z.ZodType }[] = [
  {
    name: 'Authenticated',
    title: '`GET /bff/session`, `POST /bff/refresh`: logged in',
    shape: authenticatedShape,
  },
  { name: 'Anonymous', title: '`GET /bff/session`: nobody logged in', shape: anonymousShape },
  { name: 'Logout', title: '`POST /bff/logout`', shape: logoutShape },
  { name: 'Sessions', title: '`GET /bff/sessions`', shape: sessionsShape },
  { name: 'Ended', title: '`DELETE /bff/sessions`, `DELETE /bff/sessions/:id`', shape: endedShape },
  { name: 'SilentLogin', title: 'The message of a silent login’s frame', shape: silentLoginShape },
  { name: 'Problem', title: 'Errors (`application/problem+json`)', shape: problemShape },
];

export type SessionAnswer = z.infer<typeof anonymousShape> | z.infer<typeof authenticatedShape>;

/** A zod shape as a Fastify response schema. */
export function toRouteSchema(shape: z.ZodType): object {
  const { $schema: _, ...schema } = z.toJSONSchema(shape, { target: 'draft-7' });
  return schema;
}
