import type { FastifyError, FastifyInstance, FastifyRequest } from 'fastify';
import { isServerKey } from '../crypto/keys.ts';
import type { Secret } from '../crypto/secret.ts';
import { StoreUnavailableError } from '../redis/client.ts';
import { describeError } from './logging.ts';

/** Which sessions an operator means. */
export interface AdminQuery {
  frontend?: string;
  issuer?: string;
  subject?: string;
  sid?: string;
}

export interface AdminSessions {
  list(query: AdminQuery): Promise<object[]>;
  /** Ends them on every replica; returns how many. */
  end(query: AdminQuery): Promise<number>;
}

export interface AdminLog {
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

/**
 * `/admin/sessions` on the ops listener: see and end sessions by `iss` and `sub`, by `iss` and `sid`, or by `frontend`.
 * `Authorization: Bearer <ops.adminKey>`, compared in constant time.
 */
export function registerAdmin(listener: FastifyInstance, key: Secret, sessions: AdminSessions, log: AdminLog): void {
  listener.register(async (scope) => {
    scope.addHook('onRequest', async (request, reply) => {
      if (isAdmin(request, key)) return;
      log.warn({ audit: 'admin_refused' }, 'admin request without the key');
      return reply
        .code(401)
        .header('www-authenticate', 'Bearer realm="cloakroom admin"')
        .send({ error: 'the bearer key of ops.adminKey is needed' });
    });
    scope.get('/admin/sessions', async (request, reply) => {
      const query = acceptQuery(request.query);
      if (query === undefined) return reply.code(400).send(advice);
      return { sessions: await sessions.list(query) };
    });
    scope.delete('/admin/sessions', async (request, reply) => {
      const query = acceptQuery(request.query);
      if (query === undefined) return reply.code(400).send(advice);
      const ended = await sessions.end(query);
      log.warn({ by: Object.keys(query), ended, audit: 'admin_ended_sessions' }, 'an operator ended sessions');
      return { ended };
    });
    scope.setErrorHandler(async (error: FastifyError, _request, reply) => {
      if (error instanceof StoreUnavailableError)
        return reply
          .code(503)
          .header('retry-after', '1')
          .send({ error: 'the session store can’t be asked: try again' });
      const { statusCode = 500 } = error;
      if (statusCode < 500) return reply.code(statusCode).send({ error: 'the request could not be understood' });
      log.error({ fault: describeError(error) }, 'unexpected error of the admin API');
      return reply.code(500).send({ error: 'something went wrong: see the log' });
    });
  });
}

const advice = { error: 'say whose: ?iss=…&sub=…, ?iss=…&sid=…, or ?frontend=…' };

function isAdmin({ headers }: FastifyRequest, key: Secret): boolean {
  const [, sent] = /^Bearer ([\w+/=-]+)$/i.exec(headers.authorization ?? '') ?? [];
  return sent !== undefined && isServerKey(key, sent);
}

/** All sessions of everything is never meant: a forgotten parameter must not log everybody out. */
function acceptQuery(query: unknown): AdminQuery | undefined {
  const { iss, sub, sid, frontend, ...others } = query as Record<string, unknown>;
  const values = [iss, sub, sid, frontend].filter((value) => value !== undefined);
  if (Object.keys(others).length > 0 || values.some((value) => typeof value !== 'string' || value === ''))
    return undefined;
  const named = iss !== undefined && (sub !== undefined || sid !== undefined);
  if (!named && !(frontend !== undefined && values.length === 1)) return undefined;
  return {
    ...(typeof frontend === 'string' ? { frontend } : {}),
    ...(typeof iss === 'string' ? { issuer: iss } : {}),
    ...(typeof sub === 'string' ? { subject: sub } : {}),
    ...(typeof sid === 'string' ? { sid } : {}),
  };
}
