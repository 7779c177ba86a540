import { randomBytes } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';
import { destination, type LoggerOptions } from 'pino';

/**
 * What a log line may say about an error: its class, code, and the functions it passed. Messages of foreign errors
 * are left out, because authorization servers and libraries put tokens into them (S15).
 */
export function describeError(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { type: typeof error };
  const code = 'code' in error && typeof error.code === 'string' ? error.code : undefined;
  return {
    type: error.name,
    ...(code === undefined ? {} : { code }),
    ...(code?.startsWith('BFF_') ? { message: error.message } : {}),
    stack: (error.stack ?? '')
      .split('\n')
      .filter((line) => /^\s+at /.test(line))
      .slice(0, 6)
      .map((line) => line.trim().slice(0, 200)),
    ...(error.cause === undefined ? {} : { cause: describeError(error.cause) }),
  };
}

/** pino options: one JSON object a line, and no serializer that could print a header, query string or foreign text. */
export function loggerOptions(level: string): LoggerOptions {
  return {
    level,
    base: { service: 'cloakroom' },
    timestamp: buildTimestamp(),
    formatters: { level: (label) => ({ level: label }) },
    serializers: {
      err: describeError,
      error: describeError,
      req: () => undefined,
      res: () => undefined,
    },
  };
}

/** Writing out the date costs as much as half a line: once a millisecond is enough. */
function buildTimestamp(): () => string {
  let lastMs = 0;
  let text = '';
  return () => {
    const ms = Date.now();
    if (ms !== lastMs) {
      lastMs = ms;
      text = `,"time":"${new Date(ms).toISOString()}"`;
    }
    return text;
  };
}

/** Lines wait for company, but no longer than this: one write for many of them. Milliseconds. */
const flushEveryMs = 100;

/** Standard output, written in batches. What is left goes out when the process exits. */
export function openLogStream(): ReturnType<typeof destination> {
  const stream = destination({ dest: 1, sync: true, minLength: 4096 });
  const timer = setInterval(() => stream.flush(), flushEveryMs).unref();
  process.once('exit', () => {
    clearInterval(timer);
    try {
      stream.flushSync();
    } catch {
      // Nobody reads any more; there is nowhere left to say so.
    }
  });
  return stream;
}

/** The path of a target without its query: codes and states travel there (OP2). Long ones are cut. */
export function loggablePath(target: string): string {
  const queryAt = target.indexOf('?');
  return (queryAt === -1 ? target : target.slice(0, queryAt)).slice(0, 256);
}

/** A caller's request id when it is a plain one, else `undefined`: it goes into logs and on to upstreams. */
export function acceptRequestId(request: IncomingMessage): string | undefined {
  const id = request.headers['x-request-id'];
  return typeof id === 'string' && /^[A-Za-z0-9_-]{8,64}$/.test(id) && isIP(id) === 0 ? id : undefined;
}

/** Request ids of this process: unique everywhere, cheap, and secret to nobody. */
export function createRequestIds(): () => string {
  const process = randomBytes(9).toString('base64url');
  let count = 0;
  return () => `${process}-${(count++).toString(36)}`;
}
