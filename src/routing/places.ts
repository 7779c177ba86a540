import type { Api, Frontend } from '../config/config.ts';
import { hasOnlyEncodedSlashes, readingsOf } from './readings.ts';
import { isBelow, targetFault } from './request-path.ts';
import { decodedSegment, isReadAs, plainSegment } from './segments.ts';

/**
 * Whose a path is: an API's, Cloakroom's own (`/bff`), or the rest of a frontend: the files of its page. What another
 * proxy asks about may have its target behind `/bff/forward-auth`, to be looked up by itself.
 */
export type Place = { prefix: string; frontend: Frontend } & (
  | { kind: 'api'; api: Api }
  | { kind: 'own' | 'files' | 'forward-auth' }
);

/** Nobody's: some of those who read this target would take it to another place. */
export interface Ambiguous {
  kind: 'ambiguous';
  fault: string;
}

/**
 * Whose a request is, by its host and target: the one answer for the router, forward-auth and `explain`. `undefined`:
 * no frontend of this host has the path.
 *
 * @param host as a URL has it.
 */
export type FindPlace = (host: string, target: string) => Place | Ambiguous | undefined;

export function buildFindPlace(frontends: Frontend[]): FindPlace {
  const byHost = Map.groupBy(
    frontends.flatMap(placesOf).sort((one, other) => other.prefix.length - one.prefix.length),
    ({ frontend }) => frontend.host,
  );
  const insideOf = new Map<Place, Place[]>();
  for (const places of byHost.values())
    for (const outer of places)
      insideOf.set(
        outer,
        places.filter(({ prefix }) => prefix !== outer.prefix && isBelow(prefix, outer.prefix)),
      );

  return (host, target) => {
    // The longest wins, whatever it thinks of the request then (W66).
    const place = byHost.get(host)?.find(({ prefix }) => isBelow(target, prefix));
    const fault = targetFault(target);
    if (place === undefined) return fault === undefined ? undefined : { kind: 'ambiguous', fault };
    const [path = ''] = target.split('?', 1);
    const inside = insideOf.get(place) ?? [];
    const hasOneReading =
      fault === undefined && (inside.length === 0 || (place.kind === 'files' && !path.includes('%')));
    if (hasOneReading) return place;

    const readings = readingsOf(target);
    if (readings === undefined || readings.some((segments) => inside.some((other) => leadsTo(other, segments, place))))
      return { kind: 'ambiguous', fault: fault ?? 'a segment that may be read as the path of another API' };
    return fault === undefined || isTaken(place, path) ? place : { kind: 'ambiguous', fault };
  };
}

/** Does this API have others below its path? Then not every target that the router takes there is one of its own. */
export function hasInside({ basePath, apis }: Frontend, api: Api): boolean {
  return apis.some(({ path }) => path !== api.path && isBelow(`${basePath}${path}`, `${basePath}${api.path}`));
}

function placesOf(frontend: Frontend): Place[] {
  const { basePath, apis } = frontend;
  return [
    { kind: 'files', prefix: basePath, frontend },
    { kind: 'own', prefix: `${basePath}/bff`, frontend },
    { kind: 'forward-auth', prefix: `${basePath}/bff/forward-auth`, frontend },
    ...apis.map((api): Place => ({ kind: 'api', prefix: `${basePath}${api.path}`, frontend, api })),
  ];
}

/**
 * Where an API stands around it, the other is a place of whatever its upstream may take for its path. Around files, where
 * nothing is forwarded, only decoding counts: /api.html and /API are pages like others.
 */
function leadsTo(other: Place, segments: string[], { kind }: Place): boolean {
  const wanted = other.prefix.slice(1).split('/');
  return kind === 'api'
    ? wanted.every((name, index) => isReadAs(plainSegment(name), plainSegment(segments[index] ?? '')))
    : wanted.every((name, index) => name === decodedSegment(segments[index] ?? ''));
}

/** Of what several readings have in common, nothing goes to an API in a form that it could read otherwise (W59, W60). */
function isTaken(place: Place, path: string): boolean {
  if (place.kind === 'api') return place.api.encodedSlashes && hasOnlyEncodedSlashes(path);
  return place.kind !== 'own';
}
