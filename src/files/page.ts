import { createHash } from 'node:crypto';
import { nonceMark } from '../csp/policy.ts';

// What has to be known of a page to serve it. No parser of HTML: what is not found costs a wait or a hash, no more.

/** The text between the marks; each answer has a nonce of its own between them. */
export type NoncePage = string[];

export function splitAtNonces(html: string): NoncePage {
  return html.split(nonceMark);
}

const attributes = `((?:"[^"]*"|'[^']*'|[^>"'])*)`;
const scriptElement = new RegExp(`<script(?=[\\s/>])${attributes}>([\\s\\S]*?)</script`, 'gi');
const styleElement = new RegExp(`<style(?=[\\s/>])${attributes}>([\\s\\S]*?)</style`, 'gi');
const linkElement = new RegExp(`<link(?=[\\s/>])${attributes}>`, 'gi');
const baseElement = new RegExp(`<base(?=[\\s/>])${attributes}>`, 'i');

/** Sources that allow the inline scripts and styles of the page and no others (CSP3 §8.4). */
export function inlineHashes(html: string): { scripts: string[]; styles: string[] } {
  const text = html.replace(/\r\n?/g, '\n'); // as browsers read it
  const scripts = [...text.matchAll(scriptElement)].filter(
    ([, written = '']) => attributeOf(written, 'src') === undefined && isRun(attributeOf(written, 'type')),
  );
  const hashes = (found: RegExpExecArray[]) => [...new Set(found.map(([, , content = '']) => hashSource(content)))];
  return { scripts: hashes(scripts), styles: hashes([...text.matchAll(styleElement)]) };
}

function hashSource(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}

/** Data (`application/ld+json`, templates) is not run, and needs no hash. */
function isRun(type: string | undefined): boolean {
  return (
    type === undefined ||
    /^\s*(|module|importmap|speculationrules|(text|application)\/(x-)?(java|ecma)script)\s*$/i.test(type)
  );
}

function attributeOf(written: string, name: string): string | undefined {
  const match = new RegExp(`(?:^|[\\s"'/])${name}\\s*=\\s*(?:"([^"]*)"|'([^']*)'|([^\\s"'>]+))`, 'i').exec(written);
  return (match?.[1] ?? match?.[2] ?? match?.[3])?.replaceAll('&amp;', '&');
}

/** The page's own scripts and style sheets, without which it is blank: names below the folder. */
export function neededFiles(html: string, basePath: string): string[] {
  const text = html.replace(/<!--[\s\S]*?-->/g, '');
  const base = attributeOf(baseElement.exec(text)?.[1] ?? '', 'href') ?? '';
  const links = [...text.matchAll(linkElement)].filter(([, written = '']) =>
    /(^|\s)(stylesheet|modulepreload)(\s|$)/i.test(attributeOf(written, 'rel') ?? ''),
  );
  const written = [
    ...[...text.matchAll(scriptElement)].map(([, one = '']) => attributeOf(one, 'src')),
    ...links.map(([, one = '']) => attributeOf(one, 'href')),
  ];
  return written.flatMap((url) => (url === undefined ? [] : nameOf(url, `${basePath}/`, base)));
}

/** What a URL of the page names below the folder; empty for what is elsewhere. */
function nameOf(url: string, folder: string, base: string): string[] {
  const here = new URL(folder, 'http://files.invalid');
  try {
    const { origin, pathname } = new URL(url, new URL(base, here));
    const path = decodeURIComponent(pathname);
    return origin === here.origin && path.startsWith(folder) ? [path.slice(folder.length)] : [];
  } catch {
    return [];
  }
}

/** Whoever writes `<html>` ends it: else there is more to come. */
export function isWhole(html: string): boolean {
  return !/<html[\s>]/i.test(html) || /<\/html\s*>/i.test(html);
}

/**
 * Names that a script of a bundle may load later: they stand in it as text, relative to it or to the folder. Only what
 * is named after its content, so that nobody waits for an example in a text.
 */
export function laterFiles(script: string, name: string, isHashed: (name: string) => boolean): string[][] {
  const folder = name.slice(0, name.lastIndexOf('/') + 1);
  const written = script.matchAll(/["'`(]((?:\.{0,2}\/)?[\w@./-]+\.(?:m?js|css|wasm))["'`)]/g);
  return [...new Set([...written].map(([, one = '']) => one))].flatMap((one) => {
    const beside = nameOf(one, '/', `/${folder}`);
    const below = nameOf(one.replace(/^\.{0,2}\//, ''), '/', '/');
    const places = [...beside, ...below];
    return places.some(isHashed) ? [places] : [];
  });
}
