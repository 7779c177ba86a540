import { ReplyError } from 'ioredis';
import { StoreUnavailableError } from './client.ts';

/** Keeps requests from waiting for a Redis that does not answer. */
export interface Circuit {
  /** True while requests are refused at once and a probe asks whether Redis is back. */
  isOpen(): boolean;
  /** A copy of the object with its methods, all of them asynchronous, behind the circuit. */
  guard<T extends object>(target: T): T;
  close(): void;
}

export interface CircuitOptions {
  /** Resolves when Redis answers. */
  probe(): Promise<unknown>;
  onChange(isOpen: boolean): void;
}

/** So many calls in a row without an answer open it: one lost connection does not. */
const silencesToOpen = 5;
/** Milliseconds from one probe's end to the next one's start. One at a time: a Redis that comes back is not stormed. */
const probeEveryMs = 250;

/**
 * Counts calls in a row that got no answer (timeout, no connection). An error reply such as LOADING or OOM is an
 * answer: it comes at once, nobody waits for it, and other commands may well work.
 */
export function createCircuit({ probe, onChange }: CircuitOptions): Circuit {
  let silences = 0;
  let isOpen = false;
  let isClosed = false;
  let timer: NodeJS.Timeout | undefined;
  const heard = () => {
    silences = 0;
  };
  const silent = () => {
    silences++;
    if (isOpen || isClosed || silences < silencesToOpen) return;
    isOpen = true;
    onChange(true);
    probeSoon();
  };
  const probeSoon = () => {
    timer = setTimeout(async () => {
      const isBack = await probe().then(() => true, isAnswer);
      if (isClosed) return;
      if (!isBack) return probeSoon();
      isOpen = false;
      heard();
      onChange(false);
    }, probeEveryMs).unref();
  };
  const ask = async <R>(call: () => Promise<R>): Promise<R> => {
    if (isOpen) throw new StoreUnavailableError('redis: does not answer, and is being probed');
    try {
      const result = await call();
      heard();
      return result;
    } catch (error) {
      if (error instanceof StoreUnavailableError) {
        if (isAnswer(error.cause)) heard();
        else silent();
      } // anything else is a fault of ours, and says nothing about Redis
      throw error;
    }
  };

  return {
    isOpen: () => isOpen,
    guard<T extends object>(target: T): T {
      const guarded = Object.entries(target).map(([name, method]) => [
        name,
        (...args: unknown[]) => ask(() => method.apply(target, args) as Promise<unknown>),
      ]);
      return Object.fromEntries(guarded) as T; // the names and signatures of T, as each method is wrapped
    },
    close() {
      isClosed = true;
      clearTimeout(timer);
    },
  };
}

function isAnswer(error: unknown): boolean {
  return error instanceof ReplyError;
}
