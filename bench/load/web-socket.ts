import { randomBytes } from 'node:crypto';
import { connect, type Socket } from 'node:net';
import { apiPath, browserFields } from '../requests.ts';

/** One open WebSocket at a server that echoes. */
export interface WebSocketClient {
  /** Sends a message, waits for it to come back, and again, until then (`performance.now()`). How many came back. */
  echoUntil(endsAt: number): Promise<number>;
  close(): void;
}

/** A text message of 100 bytes, masked once for all (RFC 6455 §5.3): the client is not what is measured. */
const textLength = 100;
const mask = randomBytes(4);
const masked = Buffer.alloc(textLength, 'x').map((byte, index) => byte ^ (mask[index % 4] as number));
const frame = Buffer.concat([Buffer.from([0x81, 0x80 | textLength]), mask, masked]);
const answerLength = 2 + textLength;

/** The handshake of a page of the frontend, with its session. */
export function openEcho(port: number, cookie: string): Promise<WebSocketClient> {
  const fields: Record<string, string> = {
    ...browserFields(port, cookie),
    origin: `http://localhost:${port}`,
    connection: 'Upgrade',
    upgrade: 'websocket',
    'sec-websocket-version': '13',
    'sec-websocket-key': randomBytes(16).toString('base64'),
    'sec-fetch-mode': 'websocket',
  };
  const head = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  return new Promise((resolve, reject) => {
    let received = '';
    const socket = connect({ port, host: '127.0.0.1', noDelay: true }, () => {
      socket.write(`GET ${apiPath}/echo HTTP/1.1\r\n${head.join('')}\r\n`);
    });
    const onData = (chunk: Buffer) => {
      received += chunk.toString('latin1');
      if (!received.includes('\r\n\r\n')) return;
      socket.off('data', onData);
      if (received.startsWith('HTTP/1.1 101')) resolve(buildClient(socket));
      else reject(new Error(`no WebSocket: ${received.slice(0, 300)}`));
    };
    socket.on('data', onData);
    socket.on('error', reject);
    socket.once('close', () => reject(new Error('the WebSocket was closed')));
  });
}

function buildClient(socket: Socket): WebSocketClient {
  return {
    echoUntil: (endsAt) =>
      new Promise((resolve, reject) => {
        let [received, count] = [0, 0];
        socket.once('close', () => reject(new Error('the WebSocket was closed')));
        socket.on('data', ({ length }: Buffer) => {
          received += length;
          if (received < answerLength) return;
          received -= answerLength;
          count++;
          if (performance.now() < endsAt) socket.write(frame);
          else resolve(count);
        });
        socket.write(frame);
      }),
    close: () => void socket.destroy(),
  };
}
