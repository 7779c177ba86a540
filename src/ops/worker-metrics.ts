import cluster from 'node:cluster';
import { AggregatorRegistry, type Registry } from 'prom-client';

// With several workers each scrape must see all of them: a worker asks the supervisor, which asks every worker.

interface MetricsMessage {
  type: 'cloakroom:metrics';
  id: number;
  /** In answers. */
  text?: string;
}

/** Milliseconds. */
const longestWaitMs = 5000;

const isMetricsMessage = (message: unknown): message is MetricsMessage =>
  (message as MetricsMessage | null)?.type === 'cloakroom:metrics';

/** In the supervisor. */
export function answerWorkerMetrics(): void {
  const aggregator = new AggregatorRegistry();
  cluster.on('message', (worker, message: unknown) => {
    if (!isMetricsMessage(message)) return;
    const { type, id } = message;
    const answer = (text?: string) => {
      if (worker.isConnected()) worker.send({ type, id, ...(text === undefined ? {} : { text }) });
    };
    aggregator.clusterMetrics().then(answer, () => answer());
  });
}

/** In a worker: the metrics of all workers; its own when the others can’t be asked. */
export function createWorkerMetrics(registry: Registry): () => Promise<string> {
  AggregatorRegistry.setRegistries(registry);
  new AggregatorRegistry(); // listens for the supervisor's question
  let count = 0;
  const waiting = new Map<number, (text: string | undefined) => void>();
  process.on('message', (message: unknown) => {
    if (isMetricsMessage(message)) waiting.get(message.id)?.(message.text);
  });
  return async () => {
    const id = count++;
    const text = await new Promise<string | undefined>((resolve) => {
      const timer = setTimeout(() => resolve(undefined), longestWaitMs);
      waiting.set(id, (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
      process.send?.({ type: 'cloakroom:metrics', id } satisfies MetricsMessage);
    });
    waiting.delete(id);
    return text ?? registry.metrics();
  };
}
