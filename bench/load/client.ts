import { readFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { performance } from 'node:perf_hooks';

// A load client on bare sockets, in a process of its own: `client.ts FILE`, with the requests and how to send them.
// Without a rate each connection asks again when it was answered. With one, requests are due at fixed instants whatever
// the proxy does, and latency counts from the instant that a request was due, also when no connection was free then: a
// proxy that stalls can't hide it by slowing the client down.

interface Plan {
  port: number;
  requests: string[];
  connections: number;
  seconds: number;
  rate?: number;
}

/** One kept-alive connection with at most one request on its way. */
interface Connection {
  socket: Socket;
  /** When the request on its way was due. */
  dueAt: number;
  received: Buffer | undefined;
}

const [file = ''] = process.argv.slice(2);
const plan = JSON.parse(readFileSync(file, 'utf8')) as Plan;
const requests = plan.requests.map((request) => Buffer.from(request, 'latin1'));
const latencies: number[] = [];
const idle: Connection[] = [];
/** Instants of requests that wait for a connection. */
const waiting: number[] = [];
let [next, answered, failed, broken] = [0, 0, 0, 0];
let isOver = false;

await Promise.all(Array.from({ length: plan.connections }, open));
const startedAt = performance.now();
/** The client is compiled while it runs: until then it is the slow one. */
const countsFrom = plan.rate === undefined ? startedAt : startedAt + 500;
const endsAt = startedAt + plan.seconds * 1000;
if (plan.rate === undefined) for (const connection of idle.splice(0)) send(connection, performance.now());
else keepRate(plan.rate);
setTimeout(finish, plan.seconds * 1000);

function open(): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port: plan.port, host: '127.0.0.1', noDelay: true }, () => {
      idle.push(connection);
      resolve();
    });
    const connection: Connection = { socket, dueAt: 0, received: undefined };
    socket.on('data', (chunk: Buffer) => receive(connection, chunk));
    socket.on('error', reject);
    socket.on('close', () => {
      if (!isOver) broken++;
    });
  });
}

/** Timers tick once a millisecond: what is due by then is sent then, and counts from then. */
function keepRate(rate: number): void {
  let sent = 0;
  const timer = setInterval(() => {
    const now = performance.now();
    if (now >= endsAt) return clearInterval(timer);
    for (const due = ((now - startedAt) / 1000) * rate; sent < due; sent++) {
      const connection = idle.pop();
      if (connection === undefined) waiting.push(now);
      else send(connection, now);
    }
  }, 1);
}

function send(connection: Connection, dueAt: number): void {
  connection.dueAt = dueAt;
  connection.socket.write(requests[next++ % requests.length] as Buffer);
}

function receive(connection: Connection, chunk: Buffer): void {
  const bytes = connection.received === undefined ? chunk : Buffer.concat([connection.received, chunk]);
  connection.received = bytes;
  const headEnd = bytes.indexOf('\r\n\r\n');
  if (headEnd === -1) return;
  const head = bytes.toString('latin1', 0, headEnd);
  const length = /\r\ncontent-length: *(\d+)/i.exec(head)?.[1];
  const isWhole = length === undefined ? bytes.includes('\r\n0\r\n\r\n') : bytes.length >= headEnd + 4 + Number(length);
  if (!isWhole) return;
  connection.received = undefined;
  const now = performance.now();
  if (isOver) return;
  if (!head.startsWith('HTTP/1.1 200')) failed++;
  answered++;
  if (connection.dueAt >= countsFrom) latencies.push(now - connection.dueAt);
  const dueAt = plan.rate === undefined ? now : waiting.shift();
  if (dueAt === undefined) idle.push(connection);
  else send(connection, dueAt);
}

function finish(): void {
  isOver = true;
  const seconds = (performance.now() - startedAt) / 1000;
  latencies.sort((a, b) => a - b);
  const at = (share: number) => latencies[Math.floor(latencies.length * share)] ?? 0;
  const result = { requests: answered, seconds, p50Ms: at(0.5), p99Ms: at(0.99), failed, broken };
  process.stdout.write(`RESULT ${JSON.stringify(result)}\n`, () => process.exit(0));
}
