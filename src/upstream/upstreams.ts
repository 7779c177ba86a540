import type { Api } from '../config/config.ts';
import { createTarget, type Target, type TargetOptions } from './target.ts';
import { loadUpstreamTls } from './tls.ts';

/** The targets of one API. */
export interface Upstream {
  readonly targets: readonly [Target, ...Target[]];
  /** The target for the next request, not `except`. Undefined: none of them is to be asked now. */
  pick(except?: Target): Target | undefined;
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
    pick: targets.length === 1 ? pickOnly(targets[0]) : pickOf(targets, api),
    untilTrial: () => Math.min(...targets.map((target) => target.untilTrial())),
    async close() {
      await Promise.all(targets.map((target) => target.close()));
    },
  };
}

function pickOnly(only: Target): Upstream['pick'] {
  return (except) => (except === undefined && (only.isUp || only.mayTry()) ? only : undefined);
}

/** In turn, or the least busy one. Both pass over a target that is left out, and over a full one while another has room. */
function pickOf(targets: Target[], { balance, limits }: Api): Upstream['pick'] {
  let next = 0;
  return (except) => {
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
