import { connect, createServer, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** A TCP proxy in front of a real peer (Redis, an upstream) whose faults a test switches on and off. */
export interface FaultProxy {
  port: number;
  /** `redis://127.0.0.1:port`. */
  redisUrl: string;
  faults: {
    /** New connections are closed at once, open ones are cut when this is set through `refuse()`. */
    refuse: boolean;
    /** Bytes are swallowed in both directions: a half-open connection. */
    blackHole: boolean;
    /** Every chunk to the peer waits so long first. */
    delayMs: number;
    /** Looks at what the browser side sends; a returned answer is sent back and the peer sees nothing. */
    answer: ((request: Buffer) => Buffer | string | undefined) | undefined;
    /** Looks at what the peer answers; `true` cuts the connection instead: the command ran, its reply is lost. */
    cutReply: ((reply: Buffer) => boolean) | undefined;
  };
  /** Cuts all open connections and refuses new ones until `reset()`. */
  refuse(): void;
  /** Cuts all open connections once; new ones work. */
  cut(): void;
  /** Open connections fall silent for good, new ones work: what a lost NAT entry does. */
  abandon(): void;
  /**
   * Holds the first thing that the client sends and `match` knows: as a `request`, which the peer then does not see, or
   * as a `reply`, once the peer has done it and answered. Everything behind it on that connection waits too.
   */
  hold(match: (sent: Buffer) => boolean, what: 'request' | 'reply'): Held;
  /** No faults. Connections that were black holes are cut, as their streams have gaps. */
  reset(): void;
  /** Open connections of clients. */
  connections(): number;
  stop(): Promise<void>;
}

/** One command, or its reply, in the hands of the proxy. */
export interface Held {
  /** Resolves once it is here. */
  reached: Promise<void>;
  release(): void;
}

/** Starts a proxy to `127.0.0.1:targetPort`. */
export async function startFaultProxy(targetPort: number): Promise<FaultProxy> {
  const open = new Set<Socket>();
  const abandoned = new WeakSet<Socket>();
  const holds = new Set<Hold>();
  const faults: FaultProxy['faults'] = {
    refuse: false,
    blackHole: false,
    delayMs: 0,
    answer: undefined,
    cutReply: undefined,
  };
  const server = createServer((client) => {
    if (faults.refuse) {
      client.destroy();
      return;
    }
    const peer = connect(targetPort, '127.0.0.1');
    open.add(client);
    const end = () => {
      open.delete(client);
      client.destroy();
      peer.destroy();
    };
    for (const socket of [client, peer]) {
      socket.setNoDelay(true);
      socket.on('error', end);
      socket.on('close', end);
    }
    let order = Promise.resolve();
    let replies = Promise.resolve();
    let heldReply: Hold | undefined;
    client.on('data', (chunk: Buffer) => {
      if (faults.blackHole || abandoned.has(client)) return;
      const answer = faults.answer?.(chunk);
      if (answer !== undefined) {
        client.write(answer);
        return;
      }
      const delayMs = faults.delayMs;
      const hold = [...holds].find(({ match }) => match(chunk));
      if (hold !== undefined) holds.delete(hold);
      order = order.then(async () => {
        if (delayMs > 0) await delay(delayMs);
        if (hold?.what === 'request') {
          hold.reach();
          await hold.released;
        }
        heldReply = hold?.what === 'reply' ? hold : heldReply;
        if (!peer.destroyed) peer.write(chunk);
      });
    });
    peer.on('data', (chunk: Buffer) => {
      if (faults.blackHole || abandoned.has(client)) return;
      if (faults.cutReply?.(chunk)) {
        end();
        return;
      }
      const hold = heldReply;
      heldReply = undefined;
      hold?.reach();
      replies = replies.then(async () => {
        await hold?.released;
        if (!client.destroyed) client.write(chunk);
      });
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');
  const cut = () => {
    for (const socket of open) socket.destroy();
  };
  return {
    port: address.port,
    redisUrl: `redis://127.0.0.1:${address.port}`,
    faults,
    refuse() {
      faults.refuse = true;
      cut();
    },
    cut,
    abandon() {
      for (const socket of open) abandoned.add(socket);
    },
    hold(match, what) {
      const reached = Promise.withResolvers<void>();
      const released = Promise.withResolvers<void>();
      const hold: Hold = { match, what, reach: reached.resolve, released: released.promise };
      holds.add(hold);
      return { reached: reached.promise, release: released.resolve };
    },
    reset() {
      holds.clear();
      if (faults.blackHole) cut();
      Object.assign(faults, { refuse: false, blackHole: false, delayMs: 0, answer: undefined, cutReply: undefined });
    },
    connections: () => open.size,
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      cut();
      await closed;
    },
  };
}

interface Hold {
  match(sent: Buffer): boolean;
  what: 'request' | 'reply';
  reach(): void;
  released: Promise<void>;
}

/** For `faults.answer`: one raw RESP reply (such as `-LOADING ...`) per command in the request. */
export function redisError(message: string): (request: Buffer) => string {
  return (request) => `-${message}\r\n`.repeat(request.toString('latin1').match(/\*\d+\r\n\$/g)?.length ?? 1);
}
