import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';

/** One request to the authorization server and its answer, as both went over the wire. */
export interface Overheard {
  method: string;
  path: string;
  headers: IncomingMessage['headers'];
  /** A form's fields. */
  form: URLSearchParams;
  /** 0 until it is answered, and for good when the server died instead. */
  status: number;
  /** The answer as text. */
  answer: string;
}

/**
 * Stands between an authorization server and whoever calls it: passes everything on unchanged and remembers it. While the
 * server is down its port is closed, as the server's own would be.
 */
export interface Relay {
  /** `http://127.0.0.1:port`. */
  url: string;
  overheard: Overheard[];
  /** Refresh token grants so far, in order. */
  refreshes(): Overheard[];
  /** Resolves when such a request has been passed on. */
  next(match: (request: Overheard) => boolean): Promise<Overheard>;
  /** Where the server is now. */
  open(serverPort: number): Promise<void>;
  close(): Promise<void>;
}

export const isRefresh = ({ form }: Overheard) => form.get('grant_type') === 'refresh_token';

export async function startRelay(port: number): Promise<Relay> {
  const overheard: Overheard[] = [];
  const waiting = new Set<{ match: (request: Overheard) => boolean; resolve: (request: Overheard) => void }>();
  let serverPort = 0;

  const server = createServer(async (incoming, outgoing) => {
    const body = await read(incoming);
    const { method = '', url: path = '', headers } = incoming;
    const isForm = headers['content-type']?.startsWith('application/x-www-form-urlencoded') === true;
    const form = new URLSearchParams(isForm ? body.toString() : '');
    const heard: Overheard = { method, path, headers, form, status: 0, answer: '' };
    overheard.push(heard);
    const toServer = request({ host: '127.0.0.1', port: serverPort, method, path, headers: asSent(incoming) });
    toServer.on('error', () => outgoing.destroy());
    toServer.on('response', (answer) => void passBack(heard, answer, outgoing));
    toServer.end(body, () => {
      for (const each of waiting) if (each.match(heard)) each.resolve(heard);
    });
  });

  return {
    url: `http://127.0.0.1:${port}`,
    overheard,
    refreshes: () => overheard.filter(isRefresh),
    next: (match) =>
      new Promise((resolve) => {
        const one = {
          match,
          resolve(heard: Overheard) {
            waiting.delete(one);
            resolve(heard);
          },
        };
        waiting.add(one);
      }),
    async open(to) {
      serverPort = to;
      if (server.listening) return;
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(port, '127.0.0.1', resolve);
      });
    },
    async close() {
      if (!server.listening) return;
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

async function passBack(heard: Overheard, answer: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  try {
    const body = await read(answer);
    heard.answer = body.toString();
    heard.status = answer.statusCode ?? 0;
    outgoing.writeHead(heard.status, asSent(answer));
    outgoing.end(body);
  } catch {
    outgoing.destroy(); // the server died in the middle of its answer
  }
}

/** Name and value by turns, but for how the body was cut into pieces: it comes as a whole here. */
function asSent({ rawHeaders }: IncomingMessage): string[] {
  return rawHeaders.filter((_, index) => !/^transfer-encoding$/i.test(rawHeaders[index - (index % 2)] as string));
}

async function read(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}
