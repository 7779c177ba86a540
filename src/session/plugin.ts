import fastifyCookie, { type Signer } from '@fastify/cookie';
import fastifySession from '@fastify/session';
import fastifyPlugin from 'fastify-plugin';
import { hashId } from '../crypto/keys.ts';
import { parseCookies } from '../http/cookies.ts';
import type { SealedSessions } from './sealed-sessions.ts';
import type { Session } from './session.ts';
import { readTicket } from './ticket.ts';

declare module 'fastify' {
  interface Session {
    /** The opened session; absent for anonymous browsers. */
    current?: import('./session.ts').Session;
  }
}

export interface SessionPluginOptions {
  cookieName: string;
  isSecure: boolean;
  sameSite: 'strict' | 'lax';
  signer: Signer;
  sessions: SealedSessions;
}

/**
 * @fastify/session for the `/bff` endpoints: it makes, signs and renews ids; our store keeps the record. Its defaults
 * resurrect deleted sessions, write on every request and lose its own cookie; each is overridden here with the reason
 * (REQUIREMENTS S1, S2; STACK 4.1).
 */
export const sessionPlugin = fastifyPlugin<SessionPluginOptions>(
  async (scope, { cookieName, isSecure, sameSite, signer, sessions }) => {
    const attributes = { path: '/', httpOnly: true, secure: isSecure, sameSite };
    // parseOptions are merged into every set and clear: without `secure` a browser keeps a __Host- cookie that the
    // session plugin tries to clear.
    await scope.register(fastifyCookie, { parseOptions: attributes });
    // What fills `request.cookies`. Its own reader decodes, and lets the first of two cookies win (W2, T43).
    scope.parseCookie = parseCookies as typeof scope.parseCookie;

    // Between cookie and session, because the session plugin can't be told otherwise:
    scope.addHook('onRequest', async (request, reply) => {
      // The scheme is what the configuration says. Behind a TLS terminator that is not trusted, the plugin would
      // silently neither save the session nor set its cookie.
      Object.defineProperty(request, 'protocol', { value: isSecure ? 'https' : 'http' });

      const ticket = readTicket(request.headers.cookie, cookieName, signer);
      // The plugin clears the cookie of whatever it finds no session for. What we can't read may be another server's,
      // on this host under the same name, or the genuine one beside a planted one: it is left alone (W7, T43). So is
      // the cookie of a session that a login just replaced: that login has set another, and this answer may arrive
      // after it: two tabs that log in at once would end up without any (SE13).
      if (ticket.kind !== 'valid' || sessions.wasReplaced(ticket.sessionId)) delete request.cookies[cookieName];
      else if (ticket.isOldKey) {
        // Signed with a key that is being rotated out: the plugin would restore the session and then clear the cookie.
        const value = signer.sign(ticket.sessionId);
        request.cookies[cookieName] = value;
        reply.setCookie(cookieName, value, attributes);
      }
    });

    await scope.register(fastifySession, {
      secret: signer,
      cookieName,
      cookie: { ...attributes },
      rolling: false, // else every response writes the session back, also one that was deleted meanwhile
      saveUninitialized: false, // else every anonymous request creates one
      store: {
        get(id, done) {
          sessions.peek(id).then(
            (current) => done(null, current === undefined ? null : storedSession(current)),
            (error: unknown) => done(error),
          );
        },
        // The record is created by the callback endpoint with everything in it, and changed by scripts only. The
        // plugin's own writes would be last-write-wins.
        set: (_id, _session, done) => done(),
        destroy(id, done) {
          // The endpoints ended it already, with their reason; a session that is gone has no second end.
          sessions.end(hashId(id), 'replaced').then(
            () => done(),
            (error: unknown) => done(error),
          );
        },
      },
    });

    // After the session plugin looked for the session, and before it clears the cookie of what it did not find: two
    // deployments with one name, one Redis and the same keys (W6).
    scope.addHook('onRequest', async (request) => {
      const ticket = readTicket(request.headers.cookie, cookieName, signer);
      if (ticket.kind === 'valid' && sessions.isSomebodyElses(ticket.sessionId)) delete request.cookies[cookieName];
    });
  },
  { name: 'cloakroom-session' },
);

/** Cookie attributes are not restored from a session, so that a changed SameSite reaches everybody at once. */
function storedSession(current: Session) {
  // A copy, as the plugin looks whether it changed: the times of the session itself move on with every look at the store.
  return { current: { ...current } } as never;
}
