import type { AdminQuery, AdminSessions } from '../ops/admin.ts';
import type { Whose } from '../session/whose.ts';
import type { FrontendContext } from './context.ts';

/** What operators see and end, over all frontends or in one. */
export function createAdminSessions(contexts: FrontendContext[]): AdminSessions {
  return {
    async list(query) {
      const found: object[] = [];
      for (const { frontend, sessions } of select(contexts, query)) {
        for (const { handle, createdAt, lastSeenAt, expiresAt, identity } of await sessions.list(whose(query))) {
          const { subject, issuer, sid, device } = identity;
          found.push({
            id: handle,
            frontend: frontend.name,
            issuer,
            subject,
            sid,
            device,
            createdAt,
            lastSeenAt,
            expiresAt,
          });
        }
      }
      return found;
    },
    async end(query) {
      let count = 0;
      for (const { frontend, sessions, metrics } of select(contexts, query)) {
        const ended = await sessions.endAll(whose(query), 'admin');
        metrics.logouts.inc({ frontend: frontend.name, kind: 'admin' }, ended);
        count += ended;
      }
      return count;
    },
  };
}

function select(contexts: FrontendContext[], { frontend }: AdminQuery): FrontendContext[] {
  return frontend === undefined ? contexts : contexts.filter((context) => context.frontend.name === frontend);
}

function whose({ issuer, subject, sid }: AdminQuery): Whose {
  if (issuer === undefined) return 'everybody';
  return { issuer, ...(subject === undefined ? {} : { subject }), ...(sid === undefined ? {} : { sid }) };
}
