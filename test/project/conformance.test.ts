import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { modules, modulesOf, type Plan, plans } from '../support/conformance/modules.ts';

// docs/conformance.md says which test plays which module. That the tests are there under these names is seen where they
// run (test/security/conformance.test.ts).

const root = resolve(import.meta.dirname, '../..');
const page = readFileSync(join(root, 'docs/conformance.md'), 'utf8');

const headings: Record<Plan, string> = {
  basic: 'Basic and Form Post',
  formPost: 'Basic and Form Post',
  config: 'Config',
  rpInitiated: 'RP-initiated logout',
  backChannel: 'Back-channel logout',
  frontChannel: 'Front-channel logout',
};

const sectionOf = (heading: string) => page.split(/^#{2,3} /m).find((part) => part.startsWith(`${heading}\n`)) ?? '';

describe.each(Object.keys(plans) as Plan[])('%s', (plan) => {
  it('has its name and a row for each of its modules', () => {
    const section = sectionOf(headings[plan]);
    expect(section).toContain(`\`${plans[plan]}\``);
    const rows = [
      ...section.matchAll(/^\| \[`([\w-]+)`\]\(\.\.\/test\/security\/conformance\.test\.ts\) \| (Login|Refusal) \|/gm),
    ];
    const told = rows.map(([, name, outcome = '']) => `${name}: ${outcome.toLowerCase()}`);
    const wanted = modulesOf(plan).map(({ name, expects }) => `${name}: ${expects}`);
    expect(new Set(told)).toEqual(new Set(wanted));
    expect(told).toHaveLength(wanted.length);
  });
});

it('names the other modules that are played', () => {
  const played = sectionOf('Not in these plans').split('\n\n')[1] ?? '';
  const told = [...played.matchAll(/`(oidcc-[\w-]+)`/g)].map(([, name]) => name);
  const others = modules.filter((module) => module.plans.length === 0).map(({ name }) => name);
  expect(new Set(told)).toEqual(new Set(others));
});

it('leads to tests of the kind that are there', () => {
  const links = [...page.matchAll(/\[([A-Z][\w-]*)\]\(\.\.\/(test\/[^)]+)\)/g)];
  expect(links.length).toBeGreaterThan(15);
  const missing = links.filter(([, id = '', file = '']) => {
    const titles = [...readFileSync(join(root, file), 'utf8').matchAll(/\b(?:it|describe)\b[^'"`]*['"`](.+)['"`]/g)];
    return !titles.some(([, title = '']) => title.split(/[ ,]/).includes(id));
  });
  expect(missing.map(([link]) => link)).toEqual([]);
});
