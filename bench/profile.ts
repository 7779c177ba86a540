import { readdirSync, readFileSync } from 'node:fs';
import { basename, join, relative, resolve } from 'node:path';
import type { BenchOptions } from './options.ts';

/** Flags for a Node proxy that is to leave a CPU profile behind. */
export function profileFlags({ profile }: BenchOptions, name: string): string[] {
  return profile === undefined
    ? []
    : ['--cpu-prof', `--cpu-prof-dir=${resolve(profile)}`, `--cpu-prof-name=${name}.cpuprofile`];
}

/** Where each profile of the folder says that time went, as lines of text. */
export function describeProfiles(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith('.cpuprofile'))
    .flatMap((name) => {
      const profile = JSON.parse(readFileSync(join(folder, name), 'utf8')) as CpuProfile;
      return [
        '',
        `${basename(name, '.cpuprofile')}: functions, by the time in themselves`,
        ...largest(timesBy(profile, functionNames(profile)), 25),
        '',
        `${basename(name, '.cpuprofile')}: files and packages, with what Node did for them`,
        ...largest(timesBy(profile, ownerNames(profile)), 25),
      ];
    });
}

/** What `--cpu-prof` writes. */
interface CpuProfile {
  nodes: ProfileNode[];
  samples: number[];
  timeDeltas: number[];
}

interface ProfileNode {
  id: number;
  callFrame: { functionName: string; url: string; lineNumber: number };
  children?: number[];
}

type Names = Map<number, string>;

function functionNames({ nodes }: CpuProfile): Names {
  return new Map(
    nodes.map(({ id, callFrame: { functionName, url, lineNumber } }) => {
      const place = url === '' ? '' : ` ${placeOf(url) ?? url}:${lineNumber + 1}`;
      return [id, `${functionName || '(anonymous)'}${place}`];
    }),
  );
}

/** For each node the file or package that called it, directly or through Node's own functions. */
function ownerNames({ nodes }: CpuProfile): Names {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const owners: Names = new Map();
  const visit = (node: ProfileNode, inherited: string): void => {
    const { functionName, url } = node.callFrame;
    const place = placeOf(url);
    const owner =
      place === undefined
        ? inherited
        : place.startsWith('src/') || place.startsWith('bench/')
          ? place
          : packageOf(place);
    owners.set(node.id, functionName === '(idle)' ? '(idle)' : owner);
    for (const child of node.children ?? []) visit(byId.get(child) as ProfileNode, owner);
  };
  const [root] = nodes;
  if (root !== undefined) visit(root, 'Node itself');
  return owners;
}

function packageOf(place: string): string {
  return place.split('/', place.startsWith('@') ? 2 : 1).join('/');
}

/** Within the project or within node_modules; undefined for Node's own code. */
function placeOf(url: string): string | undefined {
  if (!url.startsWith('file://')) return undefined;
  const path = url.slice('file://'.length);
  const at = path.lastIndexOf('/node_modules/');
  return at === -1 ? relative(process.cwd(), path) : path.slice(at + '/node_modules/'.length);
}

function timesBy({ samples, timeDeltas }: CpuProfile, names: Names): Map<string, number> {
  const times = new Map<string, number>();
  for (const [index, id] of samples.entries()) {
    const name = names.get(id) ?? '?';
    if (name !== '(idle)') times.set(name, (times.get(name) ?? 0) + (timeDeltas[index] ?? 0));
  }
  return times;
}

function largest(times: Map<string, number>, most: number): string[] {
  const all = [...times.values()].reduce((sum, time) => sum + time, 0);
  return [...times]
    .sort(([, a], [, b]) => b - a)
    .slice(0, most)
    .map(([name, time]) => `  ${((100 * time) / all).toFixed(1).padStart(5)} %  ${name}`);
}
