import { until } from '../wait.ts';
import type { Exchanged } from './exchange.ts';
import { buildPage, type Hop } from './page.ts';

/** An answer that is still arriving: a download, server-sent events. */
export interface StreamedPage {
  url: string;
  status: number;
  header(name: string): string | undefined;
  hop: Hop;
  /** Received so far. */
  text(): string;
  receivedBytes(): number;
  /** Waits until the predicate holds for the received text. */
  readUntil(predicate: (text: string) => boolean, timeoutMs?: number): Promise<string>;
  /** Resolves when the answer ended: `complete`, or `aborted` when it was cut (or we aborted). */
  ended: Promise<'complete' | 'aborted'>;
  /** The tab is closed. */
  abort(): void;
}

export function buildStreamedPage({ hop, stream }: Exchanged): StreamedPage {
  const chunks: Buffer[] = [];
  const { url, status, header } = buildPage([hop], Buffer.alloc(0), undefined);
  const text = () => Buffer.concat(chunks).toString('utf8');
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  const ended = new Promise<'complete' | 'aborted'>((resolve) => {
    stream.once('end', () => resolve('complete'));
    stream.once('error', () => resolve('aborted'));
    stream.once('close', () => resolve('aborted'));
  });
  return {
    url,
    status,
    header,
    hop,
    text,
    receivedBytes: () => chunks.reduce((sum, chunk) => sum + chunk.length, 0),
    async readUntil(predicate, timeoutMs = 5000) {
      await until(() => predicate(text()), {
        timeoutMs,
        message: `more of ${url} (have ${JSON.stringify(text().slice(-200))})`,
      });
      return text();
    },
    ended,
    abort: () => void stream.destroy(),
  };
}
