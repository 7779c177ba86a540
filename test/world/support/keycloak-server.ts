import { randomBytes } from 'node:crypto';
import { submit } from './form.ts';
import { startKeycloak } from './keycloak.ts';
import { type Client, jobsAudience, post, type RealServer, type User } from './real-server.ts';
import { startRelay } from './relay.ts';

export interface KeycloakServer extends RealServer {
  clientOf(clientId: string): Promise<Client>;
}

interface ClientRepresentation {
  id: string;
  clientId: string;
  secret: string;
  attributes: Record<string, string>;
  [key: string]: unknown;
}

interface KeyComponent {
  id: string;
  name: string;
  providerId: string;
}

/** Keycloak with this realm, behind a relay on this port. */
export async function startKeycloakServer(realm: string, relayPort: number): Promise<KeycloakServer> {
  const keycloak = await startKeycloak(realm);
  const relay = await startRelay(relayPort);
  await relay.open(keycloak.port);
  const { admin } = keycloak;
  const issuer = `${relay.url}/realms/shop`;
  const tokenEndpoint = `${issuer}/protocol/openid-connect/token`;

  const representationOf = async (clientId: string) => {
    const [client] = await admin<ClientRepresentation[]>('GET', `/shop/clients?clientId=${clientId}`);
    return client as ClientRepresentation;
  };
  const changeShop = async (change: (client: ClientRepresentation) => void) => {
    const client = await representationOf('cloakroom');
    change(client);
    await admin('PUT', `/shop/clients/${client.id}`, client);
  };
  const clientOf = async (clientId: string): Promise<Client> => {
    const { secret: clientSecret } = await representationOf(clientId);
    return { clientId, clientSecret };
  };
  const addClient = async (client: Record<string, unknown>): Promise<Client> => {
    await admin('POST', '/shop/clients', client);
    return clientOf(client.clientId as string);
  };
  const addJobs = async () =>
    addClient({
      clientId: `jobs-${randomBytes(4).toString('hex')}`,
      serviceAccountsEnabled: true,
      standardFlowEnabled: false,
      defaultClientScopes: ['basic'],
      protocolMappers: [
        {
          name: 'audience',
          protocol: 'openid-connect',
          protocolMapper: 'oidc-audience-mapper',
          config: {
            'included.custom.audience': jobsAudience,
            'access.token.claim': 'true',
            'introspection.token.claim': 'true',
          },
        },
      ],
    });
  const setRoles = async ({ sub }: User, roles: string[]) => {
    const clerk = await admin('GET', '/shop/roles/clerk');
    await admin(roles.includes('clerk') ? 'POST' : 'DELETE', `/shop/users/${sub}/role-mappings/realm`, [clerk]);
  };

  return {
    name: 'keycloak',
    issuer,
    tokenEndpoint,
    asksAtLogout: false,
    relay,
    clientOf,
    async addUser(roles = ['clerk']) {
      const username = `alice-${randomBytes(4).toString('hex')}`;
      const password = randomBytes(12).toString('hex');
      const names = { firstName: 'Alice', lastName: 'Adams', email: `${username}@example.com`, emailVerified: true };
      const credentials = [{ type: 'password', value: password }];
      await admin('POST', '/shop/users', { username, enabled: true, ...names, credentials });
      const [found] = await admin<{ id: string }[]>('GET', `/shop/users?username=${username}&exact=true`);
      const user: User = { username, password, sub: found?.id as string };
      await setRoles(user, roles);
      return user;
    },
    setRoles,
    addApp: (origin, { isFrontChannel = false } = {}) =>
      addClient({
        clientId: `app-${new URL(origin).port}`,
        redirectUris: [`${origin}/bff/callback`],
        frontchannelLogout: isFrontChannel,
        defaultClientScopes: ['basic', 'acr', 'profile', 'roles'],
        optionalClientScopes: ['offline_access'],
        attributes: {
          'pkce.code.challenge.method': 'S256',
          'post.logout.redirect.uris': `${origin}/`,
          ...(isFrontChannel
            ? {
                'frontchannel.logout.url': `${origin}/bff/frontchannel-logout`,
                'frontchannel.logout.session.required': 'true',
              }
            : {
                'backchannel.logout.url': `${origin}/bff/backchannel-logout`,
                'backchannel.logout.session.required': 'true',
              }),
        },
      }),
    async issueJobToken() {
      const client = await addJobs();
      const form = { grant_type: 'client_credentials' };
      const { access_token: token } = await post<{ access_token: string }>(tokenEndpoint, client, form);
      return {
        token,
        revoke: async () => {
          await post(`${issuer}/protocol/openid-connect/revoke`, client, { token });
        },
      };
    },
    introspection: async () => ({
      ...(await addJobs()),
      endpoint: `${tokenEndpoint}/introspect`,
    }),
    setAccessTokenLife: (seconds) =>
      changeShop(({ attributes }) => {
        attributes['access.token.lifespan'] = String(seconds);
      }),
    detectReuse: async (isOn) => admin('PUT', '/shop', { revokeRefreshToken: isOn, refreshTokenMaxReuse: 0 }),
    async logOutThere(browser) {
      const question = await browser.navigate(`${issuer}/protocol/openid-connect/logout`);
      const page = await submit(browser, question);
      if (!page.text.includes('You are logged out')) throw new Error(`not logged out: ${page.text}`);
    },
    endSessions: async ({ sub }) => admin('POST', `/shop/users/${sub}/logout`),
    async changeKey() {
      const providers = async () => {
        const all = await admin<KeyComponent[]>('GET', '/shop/components?type=org.keycloak.keys.KeyProvider');
        return all.filter(({ providerId }) => providerId === 'rsa-generated');
      };
      const old = await providers();
      await admin('POST', '/shop/components', {
        name: `rsa-${randomBytes(4).toString('hex')}`,
        providerId: 'rsa-generated',
        providerType: 'org.keycloak.keys.KeyProvider',
        config: { priority: [String(1000 + old.length)], enabled: ['true'], active: ['true'], algorithm: ['RS256'] },
      });
      return {
        removeOld: async () => {
          for (const { id } of old) await admin('DELETE', `/shop/components/${id}`);
        },
      };
    },
    async kill() {
      await Promise.all([keycloak.kill(), relay.close()]);
    },
    async restart() {
      await keycloak.start();
      await relay.open(keycloak.port);
    },
    async stop() {
      await Promise.all([keycloak.kill(), relay.close()]);
    },
  };
}
