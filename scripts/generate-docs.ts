import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { configSchema } from '../src/config/schema/schema.ts';
import { answers } from '../src/endpoints/shapes.ts';
import { createMetrics } from '../src/ops/metrics.ts';
import { problemTypes } from '../src/problems/errors.ts';

// `npm run docs` writes what is generated from the code; `npm run docs:check` (CI) fails when it would change.

const root = join(import.meta.dirname, '..');
const isCheck = process.argv.includes('--check');

interface JsonSchema {
  type?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  const?: unknown;
  properties?: Record<string, JsonSchema>;
  required?: string[];
  items?: JsonSchema;
  additionalProperties?: JsonSchema | boolean;
  anyOf?: JsonSchema[];
  'x-unit'?: string;
}

const schema = z.toJSONSchema(configSchema, { io: 'input' }) as JsonSchema;

const outputs: Record<string, string> = {
  'config/cloakroom.schema.json': `${JSON.stringify(forEditors(schema), null, 2)}\n`,
  'docs/configuration.md': between('docs/configuration.md', 'keys', configurationTables(schema)),
  'docs/errors.md': between('docs/errors.md', 'codes', errorTable()),
  'docs/endpoints.md': between('docs/endpoints.md', 'shapes', shapeTables()),
  'docs/operations.md': between('docs/operations.md', 'metrics', await metricsTable()),
  'packages/client/src/contract.ts': clientContract(),
};

const changed = Object.entries(outputs).filter(([file, text]) => readText(file) !== text);
if (isCheck) {
  for (const [file] of changed) console.error(`${file} is not what the code says: run "npm run docs" and commit it`);
  process.exitCode = changed.length === 0 ? 0 : 1;
} else {
  for (const [file, text] of changed) {
    writeFileSync(join(root, file), text);
    console.log(`wrote ${file}`);
  }
}

function readText(file: string): string {
  try {
    return readFileSync(join(root, file), 'utf8');
  } catch {
    return '';
  }
}

/** The page with what stands between its two markers replaced. */
function between(file: string, name: string, generated: string): string {
  const [open, close] = [`<!-- generated: ${name} -->`, `<!-- /generated: ${name} -->`];
  const page = readText(file);
  const start = page.indexOf(open);
  const end = page.indexOf(close);
  if (start === -1 || end === -1) throw new Error(`${file} has no place for ${name}: add ${open} and ${close}`);
  return `${page.slice(0, start + open.length)}\n${generated.trim()}\n${page.slice(end)}`;
}

/** `${env:NAME}` may stand where a number or boolean is wanted: editors must not mark it. */
function forEditors(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(forEditors);
  if (typeof node !== 'object' || node === null) return node;
  const { 'x-unit': _, ...rest } = node as JsonSchema;
  const copy = Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, forEditors(value)])) as JsonSchema;
  if (copy.type !== 'integer' && copy.type !== 'boolean') return copy;
  const { description, default: preset, ...plain } = copy;
  return {
    ...(description === undefined ? {} : { description }),
    ...(preset === undefined ? {} : { default: preset }),
    anyOf: [plain, { type: 'string', pattern: '^\\$\\{(env|file):[^}]+\\}$' }],
  };
}

interface Row {
  key: string;
  type: string;
  preset: string;
  description: string;
}

function configurationTables(top: JsonSchema): string {
  const sections: string[] = [];
  const collect = (node: JsonSchema, path: string, required: boolean, rows: Row[]): void => {
    const children = node.properties ?? {};
    const entry = typeof node.additionalProperties === 'object' ? node.additionalProperties : undefined;
    if (Object.keys(children).length > 0) {
      for (const [name, child] of Object.entries(children)) {
        collect(child, path === '' ? name : `${path}.${name}`, (node.required ?? []).includes(name), rows);
      }
    } else if (entry?.properties !== undefined) collect(entry, `${path}.<name>`, false, rows);
    else
      rows.push({
        key: path,
        type: typeOf(node),
        preset: presetOf(node, required),
        description: node.description ?? '',
      });
  };
  for (const [name, child] of Object.entries(top.properties ?? {})) {
    if (name === 'frontends') continue; // the same keys again
    const rows: Row[] = [];
    collect(child, name, (top.required ?? []).includes(name), rows);
    const intro = rows.length > 1 && child.description !== undefined ? `\n${child.description}\n` : '';
    const lines = rows.map(
      ({ key, type, preset, description }) => `| \`${key}\` | ${type} | ${preset} | ${escapeCell(description)} |`,
    );
    sections.push(
      `### \`${name}\`\n${intro}\n| key | type | default | meaning |\n| --- | --- | --- | --- |\n${lines.join('\n')}`,
    );
  }
  return sections.join('\n\n');
}

function typeOf(node: JsonSchema): string {
  if (node['x-unit'] !== undefined) return node['x-unit'];
  if (node.const !== undefined) return `\`${String(node.const)}\``;
  if (node.enum !== undefined) return node.enum.map((value) => `\`${String(value)}\``).join(' ');
  if (node.type === 'array') return `list of ${node.items === undefined ? 'values' : typeOf(node.items)}`;
  if (node.type === 'object') {
    return typeof node.additionalProperties === 'object' ? `map of ${typeOf(node.additionalProperties)}` : 'map';
  }
  return node.anyOf?.map(typeOf).join(' or ') ?? node.type ?? 'value';
}

function presetOf(node: JsonSchema, required: boolean): string {
  if (node.default === undefined) return required ? '**required**' : '';
  const text = typeof node.default === 'string' ? node.default : JSON.stringify(node.default);
  return text === '[]' || text === '{}' ? 'none' : `\`${text.replaceAll('","', '", "')}\``;
}

function escapeCell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ');
}

function errorTable(): string {
  const rows = problemTypes.map((Type) => {
    const { code, statusCode, message } = new Type();
    return `| \`${code}\` | ${statusCode} | ${escapeCell(message)} |`;
  });
  return `| code | status | title |\n| --- | --- | --- |\n${rows.join('\n')}`;
}

function shapeTables(): string {
  return answers
    .map(({ title, shape }) => {
      const json = z.toJSONSchema(shape) as JsonSchema;
      const rows: string[] = [];
      const collect = (node: JsonSchema, path: string, optional: boolean): void => {
        if (node.properties === undefined) {
          rows.push(
            `| \`${path}\` | ${shapeType(node)}${optional ? ', optional' : ''} | ${escapeCell(node.description ?? '')} |`,
          );
          return;
        }
        for (const [name, child] of Object.entries(node.properties)) {
          collect(child, path === '' ? name : `${path}.${name}`, !(node.required ?? []).includes(name));
        }
      };
      collect(json, '', false);
      return `### ${title}\n\n${json.description ?? ''}\n\n| member | type | meaning |\n| --- | --- | --- |\n${rows.join('\n')}`;
    })
    .join('\n\n');
}

function shapeType(node: JsonSchema): string {
  if (node.const !== undefined) return `\`${String(node.const)}\``;
  if (node.enum !== undefined) return node.enum.map((value) => `\`${String(value)}\``).join(', ');
  const type: unknown = node.type;
  if (Array.isArray(type)) return type.join(' or ');
  return node.anyOf?.map(shapeType).join(' or ') ?? node.type ?? 'any';
}

/** From what the module registers, so that a new metric can't stay undocumented. */
async function metricsTable(): Promise<string> {
  const text = await createMetrics().render();
  const rows = [...text.matchAll(/^# HELP (\S+) (.*)\n# TYPE \S+ (\S+)/gm)].map(
    ([, name, help, type]) => `| \`${name}\` | ${type} | ${help} |`,
  );
  return `| metric | type | meaning |\n| --- | --- | --- |\n${rows.join('\n')}`;
}

/** What browser code knows of the wire: types of the answers, and every error code with its status. */
function clientContract(): string {
  const types = answers.map(({ name, shape }) => {
    const json = z.toJSONSchema(shape) as JsonSchema;
    return `/** ${json.description ?? ''} */\nexport interface ${name} ${typeScriptOf(json, '')}`;
  });
  const statuses = problemTypes.map((Type) => {
    const { code, statusCode, message } = new Type();
    return `  /** ${message} */\n  ${code}: ${statusCode},`;
  });
  return [
    '// Generated by `npm run docs` from src/endpoints/shapes.ts and src/problems/errors.ts.',
    ...types,
    `/** Every error of Cloakroom itself, with its status. An API's own errors have no such code. */\nexport const problemStatuses = {\n${statuses.join('\n')}\n} as const;`,
    'export type ProblemCode = keyof typeof problemStatuses;\n',
  ].join('\n\n');
}

function typeScriptOf(node: JsonSchema, indent: string): string {
  if (node.const !== undefined) return JSON.stringify(node.const);
  if (node.enum !== undefined) return node.enum.map((value) => JSON.stringify(value)).join(' | ');
  if (node.anyOf !== undefined) return node.anyOf.map((one) => typeScriptOf(one, indent)).join(' | ');
  const type: unknown = node.type;
  if (Array.isArray(type)) return type.join(' | ');
  if (node.type === 'array') return `${typeScriptOf(node.items ?? {}, indent)}[]`;
  if (node.type === 'integer') return 'number';
  if (node.properties === undefined)
    return node.type === 'object' ? 'Record<string, unknown>' : (node.type ?? 'unknown');
  const inner = `${indent}  `;
  const members = Object.entries(node.properties).map(([name, child]) => {
    const says = child.description === undefined ? '' : `${inner}/** ${child.description} */\n`;
    const isRequired = (node.required ?? []).includes(name);
    return `${says}${inner}${name}${isRequired ? '' : '?'}: ${typeScriptOf(child, inner)}${isRequired ? '' : ' | undefined'};`;
  });
  return `{\n${members.join('\n')}\n${indent}}`;
}
