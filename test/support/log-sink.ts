import { Writable } from 'node:stream';

/** One parsed pino line. */
export interface LogLine {
  /** pino's number, or the label that the product's formatter writes. */
  level: number | string;
  time: number | string;
  msg?: string;
  [field: string]: unknown;
}

export interface LogSink {
  /** Hand it to pino or Fastify: `Fastify({ logger: { level: 'trace', stream: sink.stream } })`. */
  stream: Writable;
  lines: LogLine[];
  /** Lines of level error and fatal. */
  errors(): LogLine[];
  /** Lines of level warn. */
  warnings(): LogLine[];
  /** Everything written, unparsed: the haystack of a canary search. */
  text(): string;
  clear(): void;
}

/** Collects what a pino logger writes. A line that is not JSON throws: a log injection must not pass unseen. */
export function createLogSink(): LogSink {
  const lines: LogLine[] = [];
  let written = '';
  let rest = '';
  const stream = new Writable({
    decodeStrings: false,
    write(chunk: string | Buffer, _encoding, done) {
      const text = String(chunk);
      written += text;
      const parts = (rest + text).split('\n');
      rest = parts.pop() ?? '';
      try {
        for (const part of parts) if (part !== '') lines.push(JSON.parse(part) as LogLine);
        done();
      } catch (error) {
        done(new Error('a log line is not JSON', { cause: error }));
      }
    },
  });
  return {
    stream,
    lines,
    errors: () => lines.filter(({ level }) => level === 'error' || level === 'fatal' || Number(level) >= 50),
    warnings: () => lines.filter(({ level }) => level === 'warn' || level === 40),
    text: () => written,
    clear() {
      lines.length = 0;
      written = '';
    },
  };
}
