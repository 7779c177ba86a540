import { inspect } from 'node:util';

/**
 * A secret that will not print: template strings, JSON, `console.log` and pino all show `[redacted]`.
 * `reveal()` is the only way to the value, so every use can be found by searching for it.
 */
export class Secret {
  readonly #value: string;
  constructor(value: string) {
    this.#value = value;
  }
  reveal(): string {
    return this.#value;
  }
  toString(): string {
    return '[redacted]';
  }
  toJSON(): string {
    return '[redacted]';
  }
  [inspect.custom](): string {
    return '[redacted]';
  }
}
