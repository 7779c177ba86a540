import { request } from 'node:http';
import type { LogoutTokenOptions } from './evil-provider.ts';
import type { World } from './world.ts';

export interface Sent {
  /** Which replica hears of it; the first. */
  replica?: number;
  /** `/bff/backchannel-logout`. */
  path?: string;
  /** POST. */
  method?: string;
  /** A form; `null` sends no Content-Type. */
  type?: string | null;
  headers?: Record<string, string>;
}

export interface Answer {
  status: number;
  text: string;
  headers: Record<string, string | string[] | undefined>;
}

/** The provider sends a logout token, as its back channel does: no cookie, no browser. */
export function sendLogoutToken(world: World, token: string, sent: Sent = {}): Promise<Answer> {
  return postForm(world, new URLSearchParams({ logout_token: token }).toString(), sent);
}

/** "That login is over", says the provider: the last one, unless the options name another. */
export function logOutByProvider(world: World, options: LogoutTokenOptions = {}, sent: Sent = {}): Promise<Answer> {
  return sendLogoutToken(world, world.provider.logoutToken(options), sent);
}

/** Sends this body to one replica under the public name. */
export function postForm(world: World, body: string | undefined, sent: Sent = {}): Promise<Answer> {
  const { replica = 0, path = '/bff/backchannel-logout', method = 'POST' } = sent;
  const { type = 'application/x-www-form-urlencoded' } = sent;
  return new Promise((resolve, reject) => {
    const outgoing = request(
      {
        host: '127.0.0.1',
        port: world.ports[replica],
        path,
        method,
        agent: false,
        headers: {
          host: new URL(world.origin).host,
          ...(type === null || body === undefined ? {} : { 'content-type': type }),
          ...sent.headers,
        },
      },
      (incoming) => {
        let text = '';
        incoming.setEncoding('utf8');
        incoming.on('data', (chunk: string) => {
          text += chunk;
        });
        incoming.on('end', () => {
          world.alsoSearch(`answer of ${path}`, text);
          resolve({ status: incoming.statusCode ?? 0, text, headers: incoming.headers });
        });
        incoming.on('error', reject);
      },
    );
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}
