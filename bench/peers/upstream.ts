import { createServer, type Socket } from 'node:net';

// The upstream of machines without nginx: answers every request head on a bare socket with the same bytes. It knows
// requests without a body only, which is all that the bench sends to it. The second port wants a bearer token.

const [port = '', guardedPort = '', body = ''] = process.argv.slice(2);
const ok = answer('200 OK', body);
const unauthorized = answer('401 Unauthorized', '');
let count = 0;

listen(port, () => ok);
listen(guardedPort, (head) => (/\r\nauthorization: bearer ./i.test(head) ? ok : unauthorized));

function listen(onPort: string, answerTo: (head: string) => Buffer): void {
  createServer({ noDelay: true }, (socket) => serve(socket, answerTo)).listen(Number(onPort), '127.0.0.1', 4096);
}

function serve(socket: Socket, answerTo: (head: string) => Buffer): void {
  let rest = '';
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    rest += chunk.toString('latin1');
    for (let end = rest.indexOf('\r\n\r\n'); end !== -1; end = rest.indexOf('\r\n\r\n')) {
      count++;
      const head = rest.slice(0, end);
      rest = rest.slice(end + 4);
      // As nginx's stub_status prints it.
      const counters = `server accepts handled requests\n 0 0 ${count} \n`;
      socket.write(head.startsWith('GET /bench/count ') ? answer('200 OK', counters) : answerTo(head));
    }
  });
}

function answer(status: string, text: string): Buffer {
  const headers = 'content-type: application/json\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n';
  return Buffer.from(`HTTP/1.1 ${status}\r\n${headers}content-length: ${text.length}\r\n\r\n${text}`);
}
