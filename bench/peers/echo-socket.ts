import { createHash } from 'node:crypto';
import { createServer, type Socket } from 'node:net';

// A WebSocket server that sends every text message back (RFC 6455), on bare sockets: nothing of a library is measured
// by mistake. Messages are short and unfragmented, and arrive whole or in pieces.

const [port = ''] = process.argv.slice(2);
const guid = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

createServer({ noDelay: true }, (socket) => {
  let received: Buffer = Buffer.alloc(0);
  let isOpen = false;
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
    if (!isOpen) {
      const end = received.indexOf('\r\n\r\n');
      if (end === -1) return;
      open(socket, received.toString('latin1', 0, end));
      received = received.subarray(end + 4);
      isOpen = true;
    }
    received = answer(socket, received);
  });
}).listen(Number(port), '127.0.0.1', 8192);

function open(socket: Socket, head: string): void {
  const key = /\r\nsec-websocket-key: *(\S+)/i.exec(head)?.[1] ?? '';
  const accept = createHash('sha1').update(`${key}${guid}`).digest('base64');
  const lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade'];
  socket.write(`${[...lines, `Sec-WebSocket-Accept: ${accept}`].join('\r\n')}\r\n\r\n`);
}

/** Answers every whole frame; returns what is left. */
function answer(socket: Socket, bytes: Buffer): Buffer {
  let rest = bytes;
  while (rest.length >= 6) {
    const length = (rest[1] as number) & 0x7f; // below 126, masked
    if (rest.length < 6 + length) break;
    const mask = rest.subarray(2, 6);
    const payload = rest.subarray(6, 6 + length).map((byte, index) => byte ^ (mask[index % 4] as number));
    const opcode = (rest[0] as number) & 0x0f;
    if (opcode === 0x8) {
      socket.end(Buffer.from([0x88, 0]));
      return Buffer.alloc(0);
    }
    // A ping is answered with a pong of the same text.
    if (opcode !== 0xa)
      socket.write(Buffer.concat([Buffer.from([0x80 | (opcode === 0x9 ? 0xa : opcode), length]), payload]));
    rest = rest.subarray(6 + length);
  }
  return rest;
}
