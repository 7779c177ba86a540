import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type Dispatcher, Pool } from 'undici';

// The floor for a proxy in Node: node:http and undici's `dispatch`, written by hand and without a single feature. No
// cookie, session, policy, limit, log, metric or error page: a request in, the same request out, the answer streamed
// back. It is correct about what HTTP demands of a proxy (hop-by-hop headers, back-pressure, an end for an end), so
// that a product could be built on it, and nothing more.

const [port = '', upstream = ''] = process.argv.slice(2);
const pool = new Pool(upstream, { connections: 256, pipelining: 1, allowH2: false });
const hopByHop = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

createServer(forward).listen(Number(port), '127.0.0.1', 4096);
process.once('SIGTERM', () => process.exit(0));

function forward(request: IncomingMessage, response: ServerResponse): void {
  let controller: Dispatcher.DispatchController | undefined;
  let isOver = false;
  const leave = () => {
    if (!isOver) controller?.abort(new Error('the browser left'));
  };
  const resume = () => controller?.resume();
  const hasBody = request.headers['transfer-encoding'] !== undefined || Number(request.headers['content-length']) > 0;
  response.on('close', leave);
  pool.dispatch(
    {
      path: request.url ?? '/',
      method: request.method as Dispatcher.HttpMethod,
      headers: endToEnd(request.rawHeaders),
      body: hasBody ? request : null,
    },
    {
      onRequestStart(started) {
        controller = started;
        if (response.destroyed) leave();
      },
      onResponseStart(started, status) {
        if (status < 200) return;
        response.writeHead(status, endToEnd(started.rawHeaders as Buffer[]));
        response.on('drain', resume);
      },
      onResponseData(started, chunk) {
        if (!response.write(chunk)) started.pause();
      },
      onResponseEnd() {
        isOver = true;
        response.end();
      },
      onResponseError() {
        isOver = true;
        if (response.headersSent) response.destroy();
        else response.writeHead(502).end();
      },
    },
  );
}

/** The headers that are for the next hop too (RFC 9110 §7.6.1), flat as they came. */
function endToEnd(raw: (string | Buffer)[]): string[] {
  const headers: string[] = [];
  for (let index = 0; index < raw.length; index += 2) {
    const name = String(raw[index]);
    if (!hopByHop.has(name.toLowerCase())) headers.push(name, String(raw[index + 1]));
  }
  return headers;
}
