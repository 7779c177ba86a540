import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

// The floor for a file server in Node: one answer, made before, whatever is asked for.

const [port = '', file = ''] = process.argv.slice(2);
const { headers, body } = JSON.parse(readFileSync(file, 'utf8')) as { headers: Record<string, string>; body: string };
const bytes = Buffer.from(body, 'base64');

createServer((_request, response) => {
  response.writeHead(200, headers);
  response.end(bytes);
}).listen(Number(port), '127.0.0.1', 4096);
process.once('SIGTERM', () => process.exit(0));
