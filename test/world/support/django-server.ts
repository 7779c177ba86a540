import { randomBytes } from 'node:crypto';
import { createSigningKey, startDjango } from './django.ts';
import { submit } from './form.ts';
import { type Client, jobsAudience, post, type RealServer } from './real-server.ts';
import { startRelay } from './relay.ts';

/** django-oauth-toolkit behind a relay on this port. */
export async function startDjangoServer(relayPort: number): Promise<RealServer> {
  const django = await startDjango();
  const relay = await startRelay(relayPort);
  await relay.open(django.port);
  const issuer = `${relay.url}/o`;
  const tokenEndpoint = `${issuer}/token/`;
  const addApplication = async (parameters: Record<string, string>): Promise<Client> => {
    const { client_id: clientId, client_secret: clientSecret } = await django.operate<Record<string, string>>(
      'add_application',
      { name: 'app', ...parameters },
    );
    return { clientId, clientSecret } as Client;
  };
  const kill = async () => {
    await Promise.all([django.kill(), relay.close()]);
  };
  const restart = async () => {
    await django.start();
    await relay.open(django.port);
  };
  const redeploy = async () => {
    await kill();
    await restart();
  };

  return {
    name: 'django',
    issuer,
    tokenEndpoint,
    revocationEndpoint: `${issuer}/revoke_token/`,
    asksAtLogout: true,
    relay,
    async addUser(roles = ['clerk']) {
      const username = `alice-${randomBytes(4).toString('hex')}`;
      const password = randomBytes(12).toString('hex');
      const facts = { name: 'Alice Adams', email: `${username}@example.com`, roles };
      const { sub } = await django.operate<{ sub: string }>('add_user', { username, password, ...facts });
      return { username, password, sub };
    },
    setRoles: async ({ username }, roles) => django.operate('set_roles', { username, roles }),
    addApp: (origin) =>
      addApplication({
        grant: 'authorization-code',
        redirect_uris: `${origin}/bff/callback`,
        post_logout_redirect_uris: `${origin}/`,
      }),
    async issueJobToken() {
      const client = await addApplication({ grant: 'client-credentials' });
      const form = { grant_type: 'client_credentials', scope: 'jobs', resource: jobsAudience };
      const { access_token: token } = await post<{ access_token: string }>(tokenEndpoint, client, form);
      return {
        token,
        revoke: async () => {
          await post(`${issuer}/revoke_token/`, client, { token });
        },
      };
    },
    introspection: async () => ({
      ...(await addApplication({ grant: 'client-credentials' })),
      endpoint: `${issuer}/introspect/`,
    }),
    async setAccessTokenLife(seconds) {
      django.settings.accessTokenSeconds = seconds;
      await redeploy();
    },
    detectReuse: async () => {}, // it always does, but for the time that it leaves to answers that got lost
    async logOutThere(browser) {
      await submit(browser, await browser.navigate(`${relay.url}/`));
    },
    endSessions: async ({ username }) => django.operate('end_sessions', { username }),
    async changeKey() {
      django.settings.signingKeys.unshift(createSigningKey());
      await redeploy();
      return {
        async removeOld() {
          django.settings.signingKeys.splice(1);
          await redeploy();
        },
      };
    },
    kill,
    restart,
    async stop() {
      await kill();
      await django.remove();
    },
  };
}
