import { targetFault } from './request-path.ts';

/** More than anybody decodes one after the other. */
const mostDecodings = 4;

/**
 * The segments of a target’s path as each of those who may stand in its way reads them: undecoded, decoded, decoded
 * again; with backslashes for slashes and with one slash for several. `undefined`: not to be read at all, for no browser
 * sends it, or one of them finds a dot segment or another host in it.
 */
export function readingsOf(target: string): string[][] | undefined {
  const [path = ''] = target.split('?', 1);
  if (/[^\x21-\x7e]|#/.test(target) || !/^\/[^\\]*$/.test(path)) return undefined;
  const readings: string[][] = [];
  for (let text = path; readings.length <= mostDecodings; ) {
    const segments = text.slice(1).split(/[/\\]/);
    if (segments.some(isDots) || (isNothing(segments[0]) && segments.length > 1)) return undefined;
    readings.push(segments.filter((segment) => !isNothing(segment)));
    const decoded = decodeOnce(text);
    if (decoded === text) return readings;
    text = decoded;
  }
  return undefined;
}

/** Is an encoded slash all that is wrong with a path, in both of its readings? */
export function hasOnlyEncodedSlashes(path: string): boolean {
  const read = (slash: string) => targetFault(path.replace(/%2f/gi, slash));
  return read('/') === undefined && read('x') === undefined;
}

/** To those that drop parameters, /..;x is /.. and /;x is an empty segment. */
function isDots(segment: string): boolean {
  return /^\.\.?(?:[;?#]|$)/.test(segment);
}

function isNothing(segment: string | undefined): boolean {
  return segment === '' || segment?.startsWith(';') === true;
}

/** As lenient decoders do: what is no escape stays, what is no UTF-8 becomes something. */
function decodeOnce(text: string): string {
  return text.replace(/(?:%[0-9a-f]{2})+/gi, (run) => Buffer.from(run.replaceAll('%', ''), 'hex').toString());
}
