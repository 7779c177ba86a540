import { createServer, type Server, type Socket } from 'node:net';
import { buildConnector, Client } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { NotSentError, sortFault } from '../../../src/exchange/fault.ts';
import { TooLargeError } from '../../../src/exchange/request-body.ts';
import { noteFailures } from '../../../src/outbound/connect-failure.ts';
import { problem, RequestTimeout, UpstreamTimeout } from '../../../src/problems/errors.ts';

// W1: what counts against a target came from there, and is known to. Whatever else goes wrong does not count.

let server: Server;
let answer: (socket: Socket) => void = () => undefined;
beforeAll(async () => {
  server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', () => answer(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterAll(() => new Promise((resolve) => server.close(resolve)));

const origin = () => `http://127.0.0.1:${(server.address() as { port: number }).port}`;

/** What undici throws for a request with these headers to a target that does this. */
async function errorOf(does: (socket: Socket) => void, headers: string[] = [], to = origin()): Promise<unknown> {
  answer = does;
  const client = new Client(to, { connect: noteFailures(buildConnector({ timeout: 1000 })) });
  try {
    const { body } = await client.request({ path: '/', method: 'GET', headers });
    await body.text();
  } catch (error) {
    return error;
  } finally {
    await client.destroy();
  }
  throw new Error('nothing went wrong');
}

const sort = (error: unknown) => {
  const { answer, isOfTarget } = sortFault(error);
  return [isOfTarget, 'code' in answer ? answer.code : answer.name];
};

describe('W1 against a target counts', () => {
  it('a connection that it refuses', async () => {
    const error = await errorOf(() => undefined, [], 'http://127.0.0.1:1');
    expect(sort(new NotSentError('', { cause: error }))).toEqual([true, 'BFF_UPSTREAM_UNREACHABLE']);
  });

  it('a name that nobody knows', async () => {
    const error = await errorOf(() => undefined, [], 'http://nobody.invalid');
    expect(sort(new NotSentError('', { cause: error }))).toEqual([true, 'BFF_UPSTREAM_UNREACHABLE']);
  });

  it('TLS that it does not speak, whatever code that has', async () => {
    const error = await errorOf((socket) => socket.end('no'), [], origin().replace('http', 'https'));
    expect(sort(new NotSentError('', { cause: error }))).toEqual([true, 'BFF_UPSTREAM_UNREACHABLE']);
  });

  it('a connection that it closes or resets', async () => {
    expect(sort(await errorOf((socket) => socket.end()))).toEqual([true, 'BFF_UPSTREAM_UNREACHABLE']);
    const reset = await errorOf((socket) => socket.resetAndDestroy());
    expect(sort(reset)).toEqual([true, 'BFF_UPSTREAM_UNREACHABLE']);
  });

  it('an answer that is no HTTP', async () => {
    expect(sort(await errorOf((socket) => socket.end('rubbish')))).toEqual([true, 'BFF_UPSTREAM_INVALID']);
  });

  it('a time that it let pass', () => {
    expect(sort(problem(UpstreamTimeout))).toEqual([true, 'BFF_UPSTREAM_TIMEOUT']);
  });
});

describe('W1 against a target does not count', () => {
  it('an answer with more headers than fit, or that nobody asked for: it is there', async () => {
    const long = `HTTP/1.1 200 OK\r\nX-Long: ${'x'.repeat(20_000)}\r\n\r\n`;
    expect(sort(await errorOf((socket) => socket.end(long)))).toEqual([false, 'BFF_UPSTREAM_INVALID']);
    const other = 'HTTP/1.1 101 Switching\r\n\r\n';
    expect(sort(await errorOf((socket) => socket.end(other)))).toEqual([false, 'BFF_UPSTREAM_INVALID']);
  });

  it('a request that undici does not send', async () => {
    const error = await errorOf(() => undefined, ['x-name', 'line\nbreak']);
    expect(sort(error)).toEqual([false, 'BFF_REQUEST_MALFORMED']);
    expect(sort(new NotSentError('', { cause: error }))).toEqual([false, 'BFF_REQUEST_MALFORMED']);
  });

  it.each([
    ['a bug', new TypeError('undefined is not a function'), 'TypeError'],
    [
      'a value that Node puts into no header',
      Object.assign(new TypeError(), { code: 'ERR_HTTP_INVALID_HEADER_VALUE' }),
      'ERR_HTTP_INVALID_HEADER_VALUE',
    ],
    ['an aborted signal', new DOMException('aborted', 'AbortError'), 20],
    ['what is no error', 'text', 'Error'],
    ['the end of this process', Object.assign(new Error(), { code: 'UND_ERR_DESTROYED' }), 'BFF_UPSTREAM_UNREACHABLE'],
    ['a browser that is slow to send', problem(RequestTimeout), 'BFF_REQUEST_TIMEOUT'],
    ['a body that is too long', new TooLargeError(), 'BFF_BODY_TOO_LARGE'],
  ])('%s', (_what, error, code) => {
    expect(sort(error)).toEqual([false, code]);
    if (error instanceof Error) expect(sort(new NotSentError('', { cause: error }))[0]).toBe(false);
  });

  it.each(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EADDRNOTAVAIL'])('%s: this process is what is short', (code) => {
    let noted: unknown;
    const connect = noteFailures((_options, done) => done(Object.assign(new Error(), { code }), null));
    connect({} as never, (...[error]) => {
      noted = error;
    });
    expect(sort(new NotSentError('', { cause: noted }))).toEqual([false, 'BFF_UPSTREAM_UNREACHABLE']);
  });
});
