import type { Browser } from '../../support/browser.ts';
import type { Relay } from './relay.ts';

export type ServerName = 'keycloak' | 'django';

export interface Credentials {
  username: string;
  password: string;
}

export interface User extends Credentials {
  sub: string;
}

/** An application at the authorization server. */
export interface Client {
  clientId: string;
  clientSecret: string;
}

/** The name of an API that programs call. */
export const jobsAudience = 'https://api.example.com/jobs';

/** A real authorization server on loopback, and what its operator does there. All of its callers go through the relay. */
export interface RealServer {
  name: ServerName;
  issuer: string;
  tokenEndpoint: string;
  /** Where its metadata names none. */
  revocationEndpoint?: string;
  /** Asks whether to log out although it was given the ID token. */
  asksAtLogout: boolean;
  relay: Relay;
  /** Alice Adams, each time with a name of her own, and the role `clerk` unless told otherwise. */
  addUser(roles?: string[]): Promise<User>;
  setRoles(user: User, roles: string[]): Promise<void>;
  /** Registers a Cloakroom with this origin, with back-channel logout if there is any, or front-channel instead. */
  addApp(origin: string, options?: { isFrontChannel?: boolean }): Promise<Client>;
  /** A program's access token for `jobsAudience`, and how an operator ends it. */
  issueJobToken(): Promise<{ token: string; revoke(): Promise<void> }>;
  /** The client and the endpoint for questions about tokens. */
  introspection(): Promise<Client & { endpoint: string }>;
  /** Of the main shop's tokens from now on. Seconds. */
  setAccessTokenLife(seconds: number): Promise<void>;
  /** Whether a refresh token that comes a second time ends all that came of its login. */
  detectReuse(isOn: boolean): Promise<void>;
  /** The user logs out on the server's own page. */
  logOutThere(browser: Browser): Promise<void>;
  /** Ends the user's sessions, wherever they are. */
  endSessions(user: User): Promise<void>;
  /** Signs with a new key from now on; the old one stays published until it is removed. */
  changeKey(): Promise<{ removeOld(): Promise<void> }>;
  /** Killed without a warning. */
  kill(): Promise<void>;
  /** Comes back where it was, with what it had. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** A call of a client with its secret. */
export async function post<T = unknown>(
  endpoint: string,
  { clientId, clientSecret }: Client,
  form: Record<string, string>,
): Promise<T> {
  const credentials = Buffer.from(`${clientId}:${clientSecret}`).toString('base64');
  const headers = { authorization: `Basic ${credentials}` };
  const answer = await fetch(endpoint, { method: 'POST', headers, body: new URLSearchParams(form) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${endpoint} answers ${answer.status}: ${text}`);
  return (text === '' ? undefined : JSON.parse(text)) as T;
}
