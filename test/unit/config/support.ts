import { randomBytes } from 'node:crypto';
import { stringify } from 'yaml';
import type { Config } from '../../../src/config/config.ts';
import { formatProblem, parseConfig } from '../../../src/config/load.ts';

// biome-ignore lint/suspicious/noExplicitAny: tests change any key of a configuration, also to what the schema refuses
export type Data = Record<string, any>;

/** The smallest useful configuration. */
export function smallest(): Data {
  return {
    publicUrl: 'https://app.example.com',
    authorizationServer: { issuer: 'https://id.example.com', clientId: 'shop', clientSecret: 'k3Jx-9aLq_0pZr' },
    session: { keys: [randomBytes(32).toString('base64url')], redis: { url: 'redis://redis:6379' } },
    apis: { orders: { path: '/api/orders', upstream: 'http://orders:8080' } },
  };
}

/** The configuration after a change; throws when it is not valid. */
export function configOf(change: (data: Data) => void = () => undefined, env: NodeJS.ProcessEnv = {}): Config {
  const parsed = parse(change, env);
  if (!parsed.ok) throw new Error(parsed.problems.map(formatProblem).join('\n'));
  return parsed.config;
}

export function warningsOf(change: (data: Data) => void): string[] {
  const parsed = parse(change, {});
  return parsed.ok ? parsed.warnings : [];
}

/** `key: message` of every problem after a change; empty when it is valid. */
export function problemsOf(change: (data: Data) => void, env: NodeJS.ProcessEnv = {}): string[] {
  const parsed = parse(change, env);
  return parsed.ok ? [] : parsed.problems.map(({ key, message }) => `${key}: ${message}`);
}

/** `line:column key: message` of every problem of a text. */
export function problemsOfText(text: string, env: NodeJS.ProcessEnv = {}): string[] {
  const parsed = parseConfig('config.yaml', text, env);
  return parsed.ok ? [] : parsed.problems.map((problem) => formatProblem(problem).replace(/^config\.yaml:/, ''));
}

function parse(change: (data: Data) => void, env: NodeJS.ProcessEnv) {
  const data = smallest();
  change(data);
  return parseConfig('config.yaml', stringify(data), env);
}
