import type { ClientRequest } from 'node:http';
import { WebSocket } from 'ws';
import type { Browser } from '../browser.ts';
import type { World } from '../world.ts';

export interface PageOptions {
  /** `/api/orders/ws`. */
  path?: string;
  /** Which replica; the first. */
  replica?: number;
  /** Of the page; the frontend's own. `null` sends none. */
  origin?: string | null;
  protocols?: string[];
  headers?: Record<string, string>;
  /** False: do not answer pings. */
  autoPong?: boolean;
  /** The user leaves the page. */
  signal?: AbortSignal;
}

/** A WebSocket as a page of the frontend opens it: with the cookies and the origin, and no header of its own. */
export interface PageSocket {
  socket: WebSocket;
  /** What arrived, as text. */
  messages: string[];
  closed: Promise<{ code: number; reason: string }>;
}

export interface Refusal {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
  /** Of the problem. */
  code: string | undefined;
}

/** Opens one; throws when it is refused. */
export async function openWebSocket(world: World, browser?: Browser, options: PageOptions = {}): Promise<PageSocket> {
  const answer = await tryWebSocket(world, browser, options);
  if ('status' in answer) throw new Error(`refused: ${answer.status} ${answer.text}`);
  return answer;
}

/** Asks for one; throws when it is opened. */
export async function refusalOf(world: World, browser?: Browser, options: PageOptions = {}): Promise<Refusal> {
  const answer = await tryWebSocket(world, browser, options);
  if ('status' in answer) return answer;
  answer.socket.terminate();
  throw new Error('opened');
}

export function tryWebSocket(
  world: World,
  browser: Browser | undefined,
  {
    path = '/api/orders/ws',
    replica = 0,
    origin,
    protocols = [],
    headers = {},
    autoPong = true,
    signal,
  }: PageOptions = {},
): Promise<PageSocket | Refusal> {
  const cookie = browser?.cookies().map(({ name, value }) => `${name}=${value}`);
  const socket = new WebSocket(`ws://127.0.0.1:${world.ports[replica]}`, protocols, {
    finishRequest(request: ClientRequest) {
      request.path = path; // every character as it is
      request.end();
    },
    perMessageDeflate: true, // as browsers offer
    autoPong,
    headers: {
      host: new URL(world.origin).host,
      ...(cookie === undefined || cookie.length === 0 ? {} : { cookie: cookie.join('; ') }),
      ...(origin === null ? {} : { origin: origin ?? world.origin }),
      ...headers,
    },
  });
  signal?.addEventListener('abort', () => socket.terminate());
  const page: PageSocket = {
    socket,
    messages: [],
    closed: new Promise((resolve) => {
      socket.on('close', (code, reason) => resolve({ code, reason: String(reason) }));
    }),
  };
  socket.on('message', (data) => page.messages.push(String(data)));
  return new Promise((resolve, reject) => {
    socket.on('error', reject); // after an answer it changes nothing
    socket.on('open', () => resolve(page));
    socket.on('unexpected-response', (request, response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('end', () => {
        request.destroy();
        world.alsoSearch('refusal of a WebSocket', `${JSON.stringify(response.headers)}\n${text}`);
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text,
          code: text.startsWith('{') ? (JSON.parse(text) as { code: string }).code : undefined,
        });
      });
    });
  });
}
