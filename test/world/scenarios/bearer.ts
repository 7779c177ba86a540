import { expect } from 'vitest';
import { until } from '../../support/wait.ts';
import { jobsAudience } from '../support/real-server.ts';
import type { RealWorld } from '../support/real-world.ts';

/** Another application, whose API programs call with tokens of their own; and such a call. */
async function openToPrograms(world: RealWorld, issuer: Record<string, unknown>) {
  const app = await world.addApp({
    change(data) {
      data.bearerIssuers = { jobs: { issuer: world.server.issuer, audiences: [jobsAudience], ...issuer } };
      data.apis.jobs = { path: '/api/jobs', upstream: data.apis.orders.upstream, accept: ['bearer'] };
    },
  });
  return {
    app,
    async statusFor(token: string): Promise<number> {
      const answer = await fetch(`${app.origin}/api/jobs/1`, { headers: { authorization: `Bearer ${token}` } });
      await answer.body?.cancel();
      return answer.status;
    },
  };
}

export const bearer = {
  async 'a bearer token that is a JWT'(world: RealWorld) {
    const { app, statusFor } = await openToPrograms(world, { types: ['at+jwt', 'JWT'] });
    const { token } = await world.server.issueJobToken();
    expect(await statusFor(token)).toBe(200);
    expect(app.api.requests.at(-1)?.header('authorization')).toBe(`Bearer ${token}`);
    const [header, payload, signature] = token.split('.') as [string, string, string];
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString());
    const forged = Buffer.from(JSON.stringify({ ...claims, azp: 'admin' })).toString('base64url');
    expect(await statusFor(`${header}.${forged}.${signature}`)).toBe(401);

    // With a key that nobody here has seen. Strangers can't make us ask for keys all the time: till then it is 503.
    await world.server.changeKey();
    const { token: next } = await world.server.issueJobToken();
    const status = await until(
      async () => {
        const found = await statusFor(next);
        return found !== 503 && found;
      },
      { timeoutMs: 40_000, message: 'the new key' },
    );
    expect(status).toBe(200);
    expect(await statusFor(token)).toBe(200);
  },

  async 'W43 a bearer token that the server is asked about'(world: RealWorld) {
    const introspection = { ...(await world.server.introspection()), for: 'all', cache: '0s' };
    const { statusFor } = await openToPrograms(world, { types: ['at+jwt', 'JWT'], introspection });
    const { token, revoke } = await world.server.issueJobToken();
    expect(await statusFor(token)).toBe(200);
    await revoke();
    expect(await statusFor(token)).toBe(401);
    expect(await statusFor('made-up')).toBe(401);
  },
};
