import { Secret } from '../crypto/secret.ts';
import type { ConfigDocument, CrossProblem } from './document.ts';
import { type RedisConfig as RedisSettings, redis as redisSchema } from './schema/schema.ts';

export interface RedisConfig extends RedisSettings {
  /** With the references filled in again. Throws, without the value, when one leads nowhere or to something unusable. */
  readAgain?(): RedisConfig;
}

/** Lets Redis's settings be read again, because secrets in files are replaced while we run. */
export function followRedis(redis: RedisConfig, document: Pick<ConfigDocument, 'fillAgain'>): RedisConfig {
  return {
    ...redis,
    readAgain() {
      const { data, problems } = document.fillAgain(['session', 'redis']);
      const [unfilled] = problems;
      if (unfilled !== undefined) throw new Error(`${unfilled.key}: ${unfilled.message}`);
      const parsed = redisSchema.safeParse(data);
      const found: CrossProblem[] = (parsed.error?.issues ?? []).map(({ path, message }) => ({
        path: ['session', 'redis', ...path],
        message,
      }));
      const checked = parsed.success ? checkRedis(parsed.data, found) : redis;
      const [bad] = found;
      if (bad !== undefined) throw new Error(`${bad.path.join('.')}: ${bad.message}`);
      return checked;
    },
  };
}

/** Checks the URLs of Redis, and leaves no password in any of them. */
export function checkRedis(redis: RedisConfig, problems: CrossProblem[]): RedisConfig {
  for (const key of ['sentinel', 'cluster'] as const) checkNodes(redis, key, problems);
  return hideCredentials(redis, problems);
}

function checkNodes(redis: RedisConfig, key: 'sentinel' | 'cluster', problems: CrossProblem[]): void {
  const nodes = (key === 'sentinel' ? redis.sentinel?.nodes : redis.cluster) ?? [];
  const path = ['session', 'redis', ...(key === 'sentinel' ? ['sentinel', 'nodes'] : ['cluster'])];
  for (const [index, node] of nodes.entries()) {
    const report = (message: string) => problems.push({ path: [...path, index], message });
    const url = URL.canParse(node) ? new URL(node) : undefined;
    if (url === undefined || !/^rediss?:\/\/[^/?#]+\/?$/.test(node)) {
      report('is not a plain node: write scheme, host and port like redis://redis-1:6379');
    } else if (url.username !== '' || url.password !== '') {
      const place = key === 'sentinel' ? 'session.redis.sentinel (or session.redis for Redis itself)' : 'session.redis';
      report(`has a user or password: write username and password of ${place}, which hold for all nodes`);
    }
  }
  if (new Set(nodes.map((node) => node.startsWith('rediss:'))).size > 1)
    problems.push({ path, message: 'mixes redis:// and rediss://: use TLS for all nodes or for none' });
}

/** `redis://user:password@host` is how many platforms hand Redis out; a URL would print its password. */
function hideCredentials(redis: RedisConfig, problems: CrossProblem[]): RedisConfig {
  if (redis.url === undefined) return redis;
  const report = (message: string) => problems.push({ path: ['session', 'redis', 'url'], message });
  const read = readUrl(redis.url);
  if (read === undefined) {
    report('is not a plain URL: leave query and fragment out, and percent-encode special characters of a password');
    return redis;
  }
  const { bare, credentials } = read;
  if (Object.keys(credentials).length === 0) return redis;
  if (redis.username !== undefined || redis.password !== undefined)
    report('has a user or password, which username or password have too: keep one of them');
  return { ...redis, url: bare, ...credentials };
}

/** A URL of Redis apart from its credentials, which are decoded. Undefined: it is no plain URL. */
export function readUrl(
  text: string,
): { bare: string; credentials: { username?: string; password?: Secret } } | undefined {
  if (!URL.canParse(text) || /[?#]|%(?![0-9a-f]{2})/i.test(text)) return undefined;
  const url = new URL(text);
  const { username, password } = url;
  if (username === '' && password === '') return { bare: text, credentials: {} };
  url.username = '';
  url.password = '';
  try {
    return {
      bare: url.href,
      credentials: {
        ...(username === '' ? {} : { username: decodeURIComponent(username) }),
        ...(password === '' ? {} : { password: new Secret(decodeURIComponent(password)) }),
      },
    };
  } catch {
    return undefined; // what is encoded is no UTF-8
  }
}
