import type { Api } from '../config/config.ts';
import { createTarget, type Target, type TargetOptions } from './target.ts';
import { loadUpstreamTls } from './tls.ts';

/** The targets of one API. */
export interface Upstream {
  readonly targets: readonly [Target, ...Target[]];
  /**
   * The target for the next request, not `except`. Undefined: none of them is to be asked now. `affinity`: names whom
   * the API is to meet at the same target as long as that is up, where it is set so.
   */
  pick(affinity: string | undefined, except?: Target): Target | undefined;
  /** Milliseconds until it makes sense to ask again when there was none. */
  untilTrial(): number;
  close(): Promise<void>;
}

/** What is needed to reach an API: nothing of it is shared with another API, so that a dead one slows no other (T98). */
export function createUpstream(api: Api, options: Omit<TargetOptions, 'api' | 'name' | 'secureContext'>): Upstream {
  const { frontend, api: name } = options.labels;
  const key = `${frontend === 'default' ? '' : `frontends.${frontend}.`}apis.${name}`;
  const warn = (setting: string) => options.log.warn({ setting }, 'configuration warning');
  const secureContext = loadUpstreamTls(api, key, warn);
  const create = (target: string) => createTarget({ api, name: target, secureContext, ...options });
  const targets = api.upstream.map(create) as [Target, ...Target[]]; // without one there is no proxy scope
  return {
    targets,
    pick:
      targets.length === 1
        ? pickOnly(targets[0])
        : api.affinity === undefined
          ? pickOf(targets, api)
          : pickBy(targets, api.upstream),
    untilTrial: () => Math.min(...targets.map((target) => target.untilTrial())),
    async close() {
      await Promise.all(targets.map((target) => target.close()));
    },
  };
}

function pickOnly(only: Target): Upstream['pick'] {
  return (_affinity, except) => (except === undefined && (only.isUp || only.mayTry()) ? only : undefined);
}

/** In turn, or the least busy one. Both pass over a target that is left out, and over a full one while another has room. */
function pickOf(targets: Target[], { balance, limits }: Api): Upstream['pick'] {
  let next = 0;
  return (_affinity, except) => {
    let best: Target | undefined;
    for (let step = 0; step < targets.length; step++) {
      const target = targets[(next + step) % targets.length] as Target;
      if (target === except) continue;
      if (!target.isUp) {
        if (!target.mayTry()) continue;
        best = target;
        break;
      }
      if (best === undefined || target.line.load < best.line.load) best = target;
      if (balance === 'round-robin' && best.line.load < limits.connections) break;
    }
    if (best !== undefined) next = targets.indexOf(best) + 1;
    return best;
  };
}

/**
 * The same for each `affinity`, in every replica and worker, by nothing but the names of the targets: rendezvous hashing.
 * Each gives all targets an order of its own. What one target leaves when it falls is spread over the others, nobody else
 * moves, and all come back with it. A full one is waited for: what binds the caller is there and nowhere else.
 */
function pickBy(targets: Target[], names: string[]): Upstream['pick'] {
  const rivals = targets.map((target, index) => ({ target, seed: hash(names[index] as string) }));
  return (affinity = '', except) => {
    const key = hash(affinity);
    return rivals
      .map(({ target, seed }) => ({ target, weight: mix(key ^ seed) }))
      .sort((a, b) => b.weight - a.weight)
      .find(({ target }) => target !== except && (target.isUp || target.mayTry()))?.target;
  };
}

/** FNV-1a, 32 bits. */
function hash(text: string): number {
  let sum = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) sum = Math.imul(sum ^ text.charCodeAt(index), 0x01000193);
  return sum;
}

/** Lets each bit change all others (the last step of MurmurHash3): FNV alone tells neighbours hardly apart. */
function mix(bits: number): number {
  let mixed = Math.imul(bits ^ (bits >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
