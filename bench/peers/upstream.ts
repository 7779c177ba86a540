import { createServer } from 'node:net';

// The upstream of machines without nginx: answers every request head on a bare socket with the same bytes. It knows
// requests without a body only, which is all that the bench sends to it.

const [port = '', body = ''] = process.argv.slice(2);
const head = 'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n';
const answer = Buffer.from(`${head}content-length: ${body.length}\r\n\r\n${body}`);
let count = 0;

createServer({ noDelay: true }, (socket) => {
  let rest = '';
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    rest += chunk.toString('latin1');
    for (let end = rest.indexOf('\r\n\r\n'); end !== -1; end = rest.indexOf('\r\n\r\n')) {
      count++;
      const isCount = rest.startsWith('GET /bench/count ');
      rest = rest.slice(end + 4);
      // As nginx's stub_status prints it.
      const counters = `server accepts handled requests\n 0 0 ${count} \n`;
      socket.write(isCount ? `HTTP/1.1 200 OK\r\ncontent-length: ${counters.length}\r\n\r\n${counters}` : answer);
    }
  });
}).listen(Number(port), '127.0.0.1', 4096);
