import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server } from 'node:net';
import type { FastifyInstance } from 'fastify';

/** Node keeps there how it treats its sockets. */
type Listening = Server & { allowHalfOpen?: boolean; noDelay?: boolean };

export interface Addresses {
  listen(listen: { host: string; port: number }): Promise<void>;
  /** Accepts nothing more; done when all connections have ended. For before the server itself closes. */
  close(): Promise<void>;
}

/**
 * Listens at all addresses of `localhost`, as browsers try one after the other. Fastify would make a server of its own
 * for the second one, which has nothing of what ours was given: bounds of connections, errors, renewed certificates,
 * requests in flight that a drain waits for. So it is ours that gets all connections.
 */
export function openAddresses(app: FastifyInstance): Addresses {
  const others: Server[] = [];
  return {
    async listen({ host, port }) {
      const found = host === 'localhost' ? (await lookup(host, { all: true })).map(({ address }) => address) : [host];
      const [first, ...rest] = new Set(found);
      await app.listen({ host: first ?? host, port });
      const server: Listening = app.server;
      const { allowHalfOpen = false, noDelay = false } = server;
      for (const address of rest) {
        const other = createServer({ allowHalfOpen, noDelay }, (socket) => void server.emit('connection', socket));
        other.maxConnections = server.maxConnections;
        other.on('drop', (data) => server.emit('drop', data));
        other.listen({ host: address, port: (server.address() as AddressInfo).port });
        // On a machine without IPv6 the name may lead there all the same.
        await once(other, 'listening').then(
          () => others.push(other),
          () => undefined,
        );
      }
    },
    async close() {
      await Promise.all(others.map((other) => new Promise((resolve) => other.close(resolve))));
    },
  };
}
