import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';

/** As much of a JSON Schema as is needed to find a key in it. */
interface Schema {
  properties?: Record<string, Schema>;
  additionalProperties?: Schema | boolean;
  anyOf?: Schema[];
}

const schema = JSON.parse(
  readFileSync(resolve(import.meta.dirname, '../config/cloakroom.schema.json'), 'utf8'),
) as Schema;

/**
 * Whether the configuration has this key, `*` for any name: `apis`, `*`, `websocket`. The rows of what is not built yet
 * say so, and get their numbers when it is.
 */
export function knowsKey(...path: string[]): boolean {
  return find(schema, path);
}

function find(at: Schema, [key, ...rest]: string[]): boolean {
  if (key === undefined) return true;
  const { properties, additionalProperties, anyOf = [] } = at;
  const next = key === '*' ? additionalProperties : properties?.[key];
  return (typeof next === 'object' && find(next, rest)) || anyOf.some((branch) => find(branch, [key, ...rest]));
}
