import { Agent, createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { statusOf } from './process.ts';
import { until } from './wait.ts';

export interface Backend {
  port: number;
  opsPort: number;
}

/** Round robin over replicas, as a plain load balancer does it: asks `/readyz`, and tries the next on a refused connection. */
export interface Balancer {
  port: number;
  /** Requests sent on, by backend. */
  served: number[];
  /** Which backends get requests now. */
  ready: boolean[];
  /** Requests that no backend could take. */
  failed: number;
  stop(): Promise<void>;
}

/** How often readiness is asked, and what `shutdown.delay` must leave time for. Milliseconds. */
const checkEveryMs = 100;

export async function startBalancer(backends: Backend[], port: number): Promise<Balancer> {
  const agent = new Agent({ keepAlive: true });
  const state: Balancer = {
    port,
    served: backends.map(() => 0),
    ready: backends.map(() => true),
    failed: 0,
    stop: async () => {},
  };
  let turn = 0;
  const stopped = new AbortController();

  const next = (tried: Set<number>): number | undefined => {
    for (let step = 0; step < backends.length; step++) {
      const index = turn++ % backends.length;
      if (state.ready[index] && !tried.has(index)) return index;
    }
    return undefined;
  };

  function forward(message: IncomingMessage, body: Buffer, response: ServerResponse, tried = new Set<number>()): void {
    const index = next(tried);
    if (index === undefined) {
      state.failed++;
      response.writeHead(502).end('no backend');
      return;
    }
    const { method, url, headers } = message;
    const target = { host: '127.0.0.1', port: (backends[index] as Backend).port, method, path: url, headers, agent };
    const sent = request(target, (answer) => {
      state.served[index] = (state.served[index] ?? 0) + 1;
      const { connection: _, 'keep-alive': __, ...passed } = answer.headers;
      response.writeHead(answer.statusCode ?? 502, passed);
      answer.pipe(response);
    });
    sent.on('error', (error: NodeJS.ErrnoException) => {
      // Refused: nobody has seen the request. Anything else may have had its effect and is the browser's to see.
      if (error.code === 'ECONNREFUSED') {
        forward(message, body, response, tried.add(index));
        return;
      }
      state.failed++;
      if (response.headersSent) response.destroy();
      else response.writeHead(502).end(error.code);
    });
    sent.end(body);
  }

  const server = createServer((message, response) => {
    const chunks: Buffer[] = [];
    message.on('data', (chunk: Buffer) => chunks.push(chunk));
    message.on('end', () => forward(message, Buffer.concat(chunks), response));
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));

  const checks = backends.map(async ({ opsPort }, index) => {
    while (!stopped.signal.aborted) {
      state.ready[index] = (await statusOf(`http://127.0.0.1:${opsPort}/readyz`)) === 200;
      const at = performance.now();
      await until(() => performance.now() > at + checkEveryMs);
    }
  });
  state.stop = async () => {
    stopped.abort();
    await Promise.all(checks);
    agent.destroy();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  return state;
}
