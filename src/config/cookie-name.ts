import { isName } from '../crypto/shown.ts';
/**
 * The session cookie's name where none is configured. A cookie belongs to a host name, whatever the port, and one with
 * `__Host-` to all of its paths: so whatever tells two Cloakrooms on a host apart stands in the name, and none overwrites
 * another's session (W7). At the root of the default port that is nothing.
 *
 * `https://example.com/shop` has `__Host-cloakroom__shop`, `http://localhost:5173` has `cloakroom_5173`. No two
 * frontends, ports and paths share a name, and no name has a dot (`login/transaction.ts`).
 */
export function defaultCookieName({ name, publicUrl, basePath }: CookieOwner): string {
  const prefix = publicUrl.protocol === 'https:' ? '__Host-' : '';
  const frontend = name === 'default' ? '' : `-${name}`;
  const port = publicUrl.port === '' ? '' : `_${publicUrl.port}`;
  const path = basePath.replace(/[^A-Za-z0-9-]/g, (character) => (character === '/' ? '__' : `_${hex(character)}`));
  return `${prefix}cloakroom${frontend}${port}${path}`;
}

export interface CookieOwner {
  /** Of the frontend; `default` where there is only one. */
  name: string;
  publicUrl: URL;
  /** Path part of the public URL without a final slash. */
  basePath: string;
}

/** What is wrong with a configured name. `__Host-` keeps subdomains and plain http from planting a cookie (CK2, CK12). */
export function cookieNameFault(name: string, isSecure: boolean): string | undefined {
  if (isSecure && !name.startsWith('__Host-')) {
    const bare = name.replace(/^__\w+-/i, '');
    return `must begin with __Host- (exactly so) on https: write ${isName(bare) ? `__Host-${bare}` : '__Host- in front of it'}`;
  }
  if (!isSecure && /^__(host|secure)-/i.test(name))
    return 'has a prefix that browsers refuse on plain http: leave it out, or use an https publicUrl';
  return undefined;
}

function hex(character: string): string {
  return character.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0');
}
