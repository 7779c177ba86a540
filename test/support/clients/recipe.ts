import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import type { ConfigData } from '../config-data.ts';
import type { ClientPage } from './page.ts';

const page = join(import.meta.dirname, '../../../docs/clients.md');

/** The scripts under a heading of docs/clients.md, as they stand there. */
export function recipe(heading: string): string {
  return blocks(heading, 'js').join('\n');
}

/** The APIs under that heading, with these as their targets. */
export function recipeApis(heading: string, upstream: string | string[]): Record<string, ConfigData> {
  const { apis } = parse(blocks(heading, 'yaml')[0] ?? '') as { apis: Record<string, ConfigData> };
  return Object.fromEntries(Object.entries(apis).map(([name, api]) => [name, { ...api, upstream }]));
}

function blocks(heading: string, language: string): string[] {
  const sections = readFileSync(page, 'utf8').split(/^## /m);
  const section = sections.find((text) => text.startsWith(`${heading}\n`));
  if (section === undefined) throw new Error(`no heading "${heading}" in docs/clients.md`);
  const fenced = new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'gm');
  return [...section.matchAll(fenced)].map(([, text = '']) => text);
}

/** A module of the page that another recipe needs. */
export const bff = 'The fetch of the page';

/**
 * Runs scripts of docs/clients.md in a page: what they import is in `modules`, and what they export comes back. Only
 * `import` and `export` are other words here than there, since a page has no file of its own.
 */
export async function runRecipe<T>(code: string, page: ClientPage, modules: Record<string, unknown>): Promise<T> {
  const names: string[] = [];
  const body = code
    .replace(/^import (?:\* as (\w+)|(\{[^}]*\})) from '([^']+)';$/gm, (_, all, some, from) => {
      if (!(from in modules)) throw new Error(`the recipe imports ${from}, which the test does not have`);
      return `const ${all ?? some.replaceAll(' as ', ': ')} = modules['${from}'];`;
    })
    .replace(/^export ((?:async )?function|const|class) (\w+)/gm, (_, kind, name) => {
      names.push(name);
      return `${kind} ${name}`;
    });
  const globals = {
    modules,
    fetch: page.fetch,
    WebSocket: page.WebSocket,
    EventSource: page.EventSource,
    location: page.location,
  };
  const AsyncFunction = (async () => undefined).constructor as FunctionConstructor;
  const run = new AsyncFunction(...Object.keys(globals), `${body}\nreturn { ${names.join(', ')} };`);
  return (await run(...Object.values(globals))) as T;
}
