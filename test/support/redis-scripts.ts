import { createHash } from 'node:crypto';
import { Redis } from 'ioredis';
import { defineScripts, type ScriptName } from '../../src/store/redis-scripts.ts';

/** Knows a script of ours in what ioredis sends, by its hash or by its text: for `hold` of the fault proxy. */
export function isScript(name: ScriptName): (sent: Buffer) => boolean {
  const lua = textOf(name);
  const hash = createHash('sha1').update(lua).digest('hex');
  return (sent) => sent.includes(hash) || sent.includes(lua);
}

function textOf(name: ScriptName): string {
  const redis = new Redis({ lazyConnect: true });
  defineScripts(redis);
  const { scriptsSet } = redis as unknown as { scriptsSet: Record<string, { lua: string }> };
  const script = Object.entries(scriptsSet).find(
    ([command]) => command.toLowerCase() === `cloakroom${name}`.toLowerCase(),
  );
  if (script === undefined) throw new Error(`there is no script ${name}`);
  return script[1].lua;
}
