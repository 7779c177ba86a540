import * as connect from '@connectrpc/connect';
import { Code, ConnectError, createClient, type Transport } from '@connectrpc/connect';
import { setTrailerStatus } from '@connectrpc/connect/protocol-grpc';
import { compressionGzip, createConnectTransport, createGrpcWebTransport } from '@connectrpc/connect-node';
import * as connectWeb from '@connectrpc/connect-web';
import { afterEach, describe, expect, it } from 'vitest';
import { createGate, logOut } from '../support/api-calls.ts';
import type { Browser } from '../support/browser.ts';
import { type GreeterApi, startGreeter } from '../support/clients/greeter.ts';
import { Greeter, type GreeterClient, type Line, LineSchema } from '../support/clients/greeter-schema.ts';
import { type ClientPage, openPage } from '../support/clients/page.ts';
import { bff, recipe, recipeApis, runRecipe } from '../support/clients/recipe.ts';
import { freePort } from '../support/redis.ts';
import { until } from '../support/wait.ts';
import { type ConfigData, startWorld, type World } from '../support/world.ts';

// Connect and gRPC-Web, by @connectrpc/connect-web in the page and @connectrpc/connect-node behind (W61).

let world: World;
let api: GreeterApi;
let browser: Browser;
let page: ClientPage;

afterEach(async () => {
  await world.stop();
  await api.stop();
});

async function start(change: (data: ConfigData, api: GreeterApi) => void = () => undefined) {
  api = await startGreeter();
  world = await startWorld({
    store: 'memory',
    config(data) {
      Object.assign(data.apis, recipeApis('Connect and gRPC-Web', api.url));
      change(data, api);
    },
  });
  browser = await world.loggedIn();
  page = openPage(world, browser);
}

type Protocol = 'Connect' | 'gRPC-Web';
type Options = Partial<Parameters<typeof connectWeb.createConnectTransport>[0]>;

/** The client of the recipe, in either protocol. */
async function open(protocol: Protocol, options: Options = {}): Promise<GreeterClient> {
  const { bffFetch } = await runRecipe<{ bffFetch: typeof fetch }>(recipe(bff), page, {});
  const transportOf = (given: object): Transport =>
    protocol === 'Connect'
      ? connectWeb.createConnectTransport({ ...given, ...options } as never)
      : connectWeb.createGrpcWebTransport({ ...given, ...options } as never);
  const { greeter } = await runRecipe<{ greeter: GreeterClient }>(recipe('Connect and gRPC-Web'), page, {
    '@connectrpc/connect': connect,
    '@connectrpc/connect-web': { createConnectTransport: transportOf },
    './bff-fetch.js': { bffFetch },
    './greet_pb.js': { Greeter },
  });
  return greeter;
}

const errorOf = (call: Promise<unknown>): Promise<ConnectError> =>
  call.then(
    (answer) => {
      throw new Error(`no error but ${JSON.stringify(answer)}`);
    },
    (error: unknown) => ConnectError.from(error),
  );
/** The API streams one line, and then nothing until its caller leaves; that opens the gate. */
function countUntilAborted() {
  const aborted = createGate();
  api.count = async function* (_line, { signal }) {
    signal.addEventListener('abort', aborted.open);
    yield { text: 'one' };
    await aborted.opened;
  };
  return aborted;
}

async function all(lines: AsyncIterable<Line>): Promise<string[]> {
  const texts: string[] = [];
  for await (const { text } of lines) texts.push(text);
  return texts;
}

describe.each<Protocol>(['Connect', 'gRPC-Web'])('%s', (protocol) => {
  it('calls with the token of the session, and has the answer', async () => {
    await start();
    const greeter = await open(protocol);
    expect((await greeter.say({ text: 'wörld' })).text).toBe('hello wörld');
    const [{ headers, url } = { headers: {}, url: '' }] = api.requests;
    expect(url).toBe('/greet.v1.Greeter/Say');
    expect(headers).toMatchObject({
      authorization: expect.stringMatching(/^Bearer ./),
      'content-type': protocol === 'Connect' ? 'application/json' : 'application/grpc-web+proto',
    });
    expect(headers).not.toHaveProperty('cookie');
  });

  it('W61 tells the API the deadline of a call, and the page that it passed', async () => {
    await start();
    let deadlineMs: number | undefined;
    api.say = (_line, context) => {
      deadlineMs = context.timeoutMs();
      return new Promise((_, reject) => context.signal.addEventListener('abort', () => reject(context.signal.reason)));
    };
    const greeter = await open(protocol);
    const error = await errorOf(greeter.say({ text: 'slow' }, { timeoutMs: 300 }));
    expect(Code[error.code]).toBe('DeadlineExceeded');
    expect(deadlineMs).toBeGreaterThan(0);
    expect(deadlineMs).toBeLessThanOrEqual(300);
  });

  it('W61 has the code, the message and the details of an error', async () => {
    await start();
    api.say = async () => {
      throw new ConnectError('no such line: né', Code.NotFound, { 'x-reason': 'unknown' }, [
        { desc: LineSchema, value: { text: 'look elsewhere' } },
      ]);
    };
    const error = await errorOf((await open(protocol)).say({ text: 'x' }));
    expect([Code[error.code], error.rawMessage]).toEqual(['NotFound', 'no such line: né']);
    expect(error.findDetails(LineSchema)).toMatchObject([{ text: 'look elsewhere' }]);
  });

  it('streams piece by piece', async () => {
    await start();
    const gates = [createGate(), createGate()];
    api.count = async function* () {
      for (const [index, gate] of gates.entries()) {
        yield { text: `line ${index}` };
        await gate.opened;
      }
    };
    const lines = (await open(protocol)).count({ text: '' })[Symbol.asyncIterator]();
    // Each is here before the next is made.
    for (const [index, gate] of gates.entries()) {
      expect((await lines.next()).value).toMatchObject({ text: `line ${index}` });
      gate.open();
    }
    expect((await lines.next()).done).toBe(true);
  });

  it('has what was streamed before an error, and the error', async () => {
    await start();
    api.count = async function* () {
      yield { text: 'one' };
      throw new ConnectError('the rest is lost', Code.DataLoss, undefined, [
        { desc: LineSchema, value: { text: 'why' } },
      ]);
    };
    const seen: string[] = [];
    const error = await errorOf(
      (async () => {
        for await (const { text } of (await open(protocol)).count({ text: '' })) seen.push(text);
      })(),
    );
    expect([seen, Code[error.code], error.rawMessage]).toEqual([['one'], 'DataLoss', 'the rest is lost']);
    expect(error.findDetails(LineSchema)).toMatchObject([{ text: 'why' }]);
  });

  it('W61 has an error of a stream before its first message', async () => {
    await start();
    // biome-ignore lint/correctness/useYield: it fails before
    api.count = async function* () {
      throw new ConnectError('not for you', Code.PermissionDenied);
    };
    const error = await errorOf(all((await open(protocol)).count({ text: '' })));
    expect([Code[error.code], error.rawMessage]).toEqual(['PermissionDenied', 'not for you']);
  });

  it('gives up a call at the API too', async () => {
    await start();
    const aborted = createGate();
    api.say = (_line, { signal }) =>
      new Promise((_, reject) => {
        signal.addEventListener('abort', () => {
          aborted.open();
          reject(signal.reason);
        });
      });
    const leaving = new AbortController();
    const answer = errorOf((await open(protocol)).say({ text: 'x' }, { signal: leaving.signal }));
    await until(() => api.requests.length === 1);
    leaving.abort();
    expect(Code[(await answer).code]).toBe('Canceled');
    await aborted.opened;
  });

  it('gives up a stream at the API too', async () => {
    await start();
    const aborted = countUntilAborted();
    for await (const { text } of (await open(protocol)).count({ text: '' })) {
      expect(text).toBe('one');
      break;
    }
    await aborted.opened;
  });

  it('passes metadata that the API lists, both ways', async () => {
    await start((data) =>
      Object.assign(data.apis.greeter, {
        forwardHeaders: ['x-tenant', 'x-trace-*'],
        returnHeaders: ['x-region', 'trailer-x-cost'],
      }),
    );
    let metadata: Headers | undefined;
    api.say = async (_line, context) => {
      metadata = context.requestHeader;
      context.responseHeader.set('x-region', 'eu');
      context.responseTrailer.set('x-cost', '3');
      return { text: 'ok' };
    };
    const heard: Record<string, string | null> = {};
    await (await open(protocol)).say(
      { text: 'x' },
      {
        headers: {
          'x-tenant': 'blue',
          'x-trace-bin': connect.encodeBinaryHeader(new Uint8Array([1, 2])),
          'x-other': '1',
        },
        onHeader(headers) {
          heard.region = headers.get('x-region');
        },
        onTrailer(trailers) {
          heard.cost = trailers.get('x-cost');
        },
      },
    );
    expect(['x-tenant', 'x-trace-bin', 'x-other'].map((name) => metadata?.get(name))).toEqual(['blue', 'AQI', null]);
    expect(heard).toEqual({ region: 'eu', cost: '3' });
  });

  it('W61 has compressed messages, unary and streamed', async () => {
    await start();
    const text = 'again and again, '.repeat(1000);
    api.say = async (line) => line;
    api.count = async function* (line) {
      yield line;
    };
    // A browser leaves it to HTTP; the libraries of other platforms compress each message.
    const options = {
      baseUrl: `${world.origin}/api/greeter`,
      httpVersion: '1.1' as const,
      acceptCompression: [compressionGzip],
      sendCompression: compressionGzip,
      interceptors: [withHeaders({ ...page.headers('POST'), 'x-csrf': '1' })],
    };
    const client = createClient(
      Greeter,
      protocol === 'Connect' ? createConnectTransport(options) : createGrpcWebTransport(options),
    ) as unknown as GreeterClient;
    const encodings: (string | null)[] = [];
    const noteEncoding = (headers: Headers) =>
      encodings.push(
        headers.get('content-encoding') ?? headers.get('connect-content-encoding') ?? headers.get('grpc-encoding'),
      );
    expect((await client.say({ text }, { onHeader: noteEncoding })).text).toBe(text);
    expect(await all(client.count({ text }, { onHeader: noteEncoding }))).toEqual([text]);
    expect(api.requests.map(({ headers }) => encodingOf(headers))).toEqual(['gzip', 'gzip']);
    // Connect’s unary answer is a body like any other: Node’s client has decoded it already.
    expect(encodings).toEqual(['gzip', 'gzip']);
  });

  it('has an error, not an end, when the API vanishes in the middle of a stream', async () => {
    await start();
    api.count = async function* () {
      yield { text: 'one' };
      await new Promise(() => undefined);
    };
    const lines = (await open(protocol)).count({ text: '' })[Symbol.asyncIterator]();
    expect((await lines.next()).value).toMatchObject({ text: 'one' });
    api.server.closeAllConnections();
    expect(await errorOf(lines.next())).toBeInstanceOf(ConnectError);
  });

  it('ends a stream with the session, as an error', async () => {
    await start();
    const aborted = countUntilAborted();
    const greeter = await open(protocol);
    const lines = greeter.count({ text: '' })[Symbol.asyncIterator]();
    expect((await lines.next()).value).toMatchObject({ text: 'one' });
    await logOut(browser);
    expect(Code[(await errorOf(lines.next())).code]).toMatch(/^(Unknown|Internal|Aborted|Unavailable)$/);
    await aborted.opened;
    expect(Code[(await errorOf(all(greeter.count({ text: '' })))).code]).toBe('Unauthenticated');
    expect(page.left).toEqual([`${world.origin}/bff/login?return_to=%2Fapp`]);
  });

  it('leaves it to the application when the API itself says Unauthenticated', async () => {
    await start();
    api.say = async () => {
      throw new ConnectError('who are you to me', Code.Unauthenticated);
    };
    const error = await errorOf((await open(protocol)).say({ text: 'x' }));
    expect([Code[error.code], error.rawMessage]).toEqual(['Unauthenticated', 'who are you to me']);
    expect(page.left).toEqual([]);
  });

  describe('what Cloakroom refuses', () => {
    it('because the API takes too long is Unavailable', async () => {
      await start((data) => Object.assign(data.apis.greeter, { timeouts: { headers: '300ms' } }));
      api.say = () => new Promise(() => undefined);
      expect(Code[(await errorOf((await open(protocol)).say({ text: 'x' }))).code]).toBe('Unavailable');
    });

    it('W61 as nobody’s is Unauthenticated, and the page goes to the login', async () => {
      await start();
      const greeter = await open(protocol);
      await logOut(browser);
      for (const call of [() => greeter.say({ text: 'x' }), () => all(greeter.count({ text: 'x' }))]) {
        const error = await errorOf(call());
        expect(Code[error.code]).toBe('Unauthenticated');
        expect(error.metadata.get('proxy-status')).toContain('BFF_SESSION_REQUIRED');
      }
      expect(page.left).toEqual(Array(2).fill(`${world.origin}/bff/login?return_to=%2Fapp`));
      expect(api.requests).toEqual([]);
    });

    it('by a rule is PermissionDenied, and the page stays', async () => {
      await start((data) => {
        data.apis.greeter.routes = [{ path: '/greet.v1.Greeter/Say', require: { roles: ['admin'] } }];
      });
      const greeter = await open(protocol);
      const error = await errorOf(greeter.say({ text: 'x' }));
      expect([Code[error.code], error.metadata.get('proxy-status')]).toEqual([
        'PermissionDenied',
        expect.stringContaining('BFF_POLICY_DENIED'),
      ]);
      expect(await all(greeter.count({ text: '' }))).toEqual(['one', 'two', 'three']);
      expect(page.left).toEqual([]);
    });

    it('without the CSRF header is PermissionDenied', async () => {
      await start();
      const greeter = await open(protocol, { fetch: page.fetch });
      const error = await errorOf(greeter.say({ text: 'x' }));
      expect([Code[error.code], error.metadata.get('proxy-status')]).toEqual([
        'PermissionDenied',
        expect.stringContaining('BFF_CSRF_REJECTED'),
      ]);
    });

    it('because the API is down is Unavailable', async () => {
      const dead = await freePort();
      await start((data) => {
        data.apis.greeter.upstream = `http://127.0.0.1:${dead}`;
      });
      const greeter = await open(protocol);
      for (const call of [() => greeter.say({ text: 'x' }), () => all(greeter.count({ text: 'x' }))])
        expect(Code[(await errorOf(call())).code]).toBe('Unavailable');
    });
  });
});

it('Connect reads without side effects by GET', async () => {
  await start();
  const greeter = await open('Connect', { useHttpGet: true });
  expect((await greeter.look({ text: 'wörld/?&' })).text).toBe('hello wörld/?&');
  expect(api.requests.map(({ method, url }) => [method, url?.split('?')[0]])).toEqual([
    ['GET', '/greet.v1.Greeter/Look'],
  ]);
});

// grpc-go, tonic and ASP.NET Core answer so when there is no message: the status stands in the headers.
describe('gRPC-Web without a message', () => {
  const startTrailersOnly = async (error: ConnectError | undefined) => {
    await start();
    api.server.removeAllListeners('request').on('request', (_request, response) => {
      const headers = new Headers({ 'content-type': 'application/grpc-web+proto' });
      setTrailerStatus(headers, error);
      response.writeHead(200, Object.fromEntries(headers)).end();
    });
    return open('gRPC-Web');
  };

  it('W61 has the code, the message and the details of an error', async () => {
    const greeter = await startTrailersOnly(
      new ConnectError('100 % né', Code.NotFound, undefined, [{ desc: LineSchema, value: { text: 'look elsewhere' } }]),
    );
    for (const call of [() => greeter.say({ text: 'x' }), () => all(greeter.count({ text: 'x' }))]) {
      const error = await errorOf(call());
      expect([Code[error.code], error.rawMessage]).toEqual(['NotFound', '100 % né']);
      expect(error.findDetails(LineSchema)).toMatchObject([{ text: 'look elsewhere' }]);
    }
  });

  it('W61 is an empty stream when there was no error', async () => {
    const greeter = await startTrailersOnly(undefined);
    expect(await all(greeter.count({ text: 'x' }))).toEqual([]);
  });
});

function withHeaders(more: Record<string, string>): connect.Interceptor {
  return (next) => (request) => {
    for (const [name, value] of Object.entries(more)) request.header.set(name, value);
    return next(request);
  };
}

/** Whichever of the three names its protocol has for it. */
function encodingOf(headers: GreeterApi['requests'][number]['headers']): unknown {
  return headers['content-encoding'] ?? headers['connect-content-encoding'] ?? headers['grpc-encoding'];
}
