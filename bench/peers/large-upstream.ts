import { createServer } from 'node:http';
import { Readable } from 'node:stream';

// An API with large bodies. It counts the bytes that it could hand over and the bytes that it took, and stops taking
// them in the middle of an upload until it is told to go on: what arrives nevertheless is in somebody's memory.

const [port = ''] = process.argv.slice(2);
const chunk = Buffer.alloc(64 * 1024, 'x');
const stopAfter = 8 * 1024 ** 2;
let [sent, received] = [0, 0];
let goOn: (() => void) | undefined;

createServer((request, response) => {
  const { pathname, searchParams } = new URL(request.url ?? '/', 'http://upstream');
  switch (pathname.split('/').pop()) {
    case 'down': {
      sent = 0;
      const bytes = Number(searchParams.get('bytes'));
      response.setHeader('content-length', bytes);
      pieces(bytes).pipe(response);
      return;
    }
    case 'up':
      received = 0;
      request.on('data', ({ length }: Buffer) => {
        const isStop = received < stopAfter && received + length >= stopAfter;
        received += length;
        if (!isStop) return;
        request.pause();
        goOn = () => request.resume();
      });
      request.on('end', () => response.end(JSON.stringify({ received })));
      return;
    case 'go-on':
      goOn?.();
      goOn = undefined;
      response.end();
      return;
    default:
      response.end(JSON.stringify({ sent, received }));
  }
}).listen(Number(port), '127.0.0.1');

function pieces(bytes: number): Readable {
  let left = bytes;
  return new Readable({
    read() {
      const piece = chunk.subarray(0, Math.min(left, chunk.length));
      left -= piece.length;
      sent += piece.length;
      this.push(piece.length === 0 ? null : piece);
    },
  });
}
