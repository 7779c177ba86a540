import type { FastifyReply, FastifyRequest } from 'fastify';
import type { JWTPayload } from 'jose';
import type { TokenResult } from './access-token.ts';

/** The name under which a checked token's claims hang on the request. */
export const CLAIMS = 'claims';

export type Guard = (request: FastifyRequest, reply: FastifyReply) => Promise<unknown>;

/** Builds the two guards of an API: any valid token, or a valid token of somebody with one of these roles. */
export function buildGuards(answeredBy: string, verify: (token: string) => Promise<TokenResult>) {
  async function requireToken(request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
    const [, token] = /^Bearer ([\w.~+/=-]+)$/i.exec(request.headers.authorization ?? '') ?? [];
    if (token === undefined) return rejectToken(reply, 'no bearer token');
    const result = await verify(token);
    switch (result.outcome) {
      case 'valid':
        request.setDecorator(CLAIMS, result.claims);
        return undefined;
      case 'rejected':
        return rejectToken(reply, result.reason);
      case 'unavailable':
        return reply.code(503).send({ error: 'temporarily_unavailable', message: result.reason, answeredBy });
    }
  }

  function rejectToken(reply: FastifyReply, reason: string): FastifyReply {
    // A header may not carry just any text, so the reason stays in the body.
    reply.header('www-authenticate', 'Bearer error="invalid_token"');
    return reply.code(401).send({ error: 'invalid_token', message: reason, answeredBy });
  }

  function requireRole(...roles: readonly string[]): Guard[] {
    async function checkRole(request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
      const held = rolesOf(claimsOf(request));
      if (roles.some((role) => held.includes(role))) return undefined;
      const message = `This needs the role ${roles.join(' or ')}.`;
      return reply.code(403).send({ error: 'forbidden', message, roles: held, answeredBy });
    }
    return [requireToken, checkRole];
  }

  return { requireToken: [requireToken] as Guard[], requireRole };
}

export function claimsOf(request: FastifyRequest): JWTPayload {
  return request.getDecorator<JWTPayload>(CLAIMS);
}

function rolesOf(claims: JWTPayload): string[] {
  const { roles } = claims;
  return Array.isArray(roles) ? roles.filter((role) => typeof role === 'string') : [];
}
