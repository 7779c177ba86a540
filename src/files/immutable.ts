// Which files never change under their names (W57)? A wrong yes shows the old file for a year, a wrong no costs a 304. So:
// only what a bundler named after its content.

/** All that bundlers write here has a hash or the build's id in its path. */
const hashedFolders = /^(_next\/static|_app\/immutable|_nuxt|_astro)\//;
/** But for what is asked for anew, to see whether there is a new build. */
const pointers = /^_nuxt\/builds\/latest\.json$/;
/** Bundlers write here, and people put files beside. */
const mixedFolders = /^(assets|static\/(js|css|media)|build|dist|media|chunks)\//;

const named = /\.(m?js|css|map|woff2?|ttf|otf|eot|png|jpe?g|gif|svg|webp|avif|ico|wasm|json|mp4|webm|mp3|pdf|txt)$/;
const scripts = /\.(m?js|css|map|wasm)$/;

/**
 * Service workers and what they are made of, and what tells a page how it is set up here. A browser that keeps a service
 * worker for a year is one that no release reaches.
 */
const never =
  /(^|[._-])(sw|service-?worker|workbox|ngsw|safety-worker|worker-basic|register-?sw|firebase-messaging|onesignal\w*|precache-manifest|(runtime|app|env)-?config)([._-]|$)/i;

/**
 * @param name below the folder.
 * @param listed what the bundler's own manifest names.
 */
export function isImmutable(name: string, listed: ReadonlySet<string>): boolean {
  const base = name.slice(name.lastIndexOf('/') + 1);
  if (/\.(html?|xhtml|webmanifest)$/i.test(base) || pointers.test(name) || never.test(base)) return false;
  if (hashedFolders.test(name)) return true;
  if (!named.test(base)) return false;
  const least = listed.has(name) || mixedFolders.test(name) ? 6 : 8;
  return tokensOf(base).some((token) => isHash(token, least, scripts.test(base)));
}

/** What may be a hash: whole parts between dots, and what is behind a dash; a hash of Vite's has dashes of its own. */
function tokensOf(base: string): string[] {
  const parts = base.split('.').slice(0, -1);
  const ends = parts.flatMap((part) => [...part.matchAll(/[-_]/g)].map(({ index }) => part.slice(index + 1)));
  // The first part is the file's own name, unless it is nothing but a long hash.
  return [...ends, ...parts.filter((part, index) => index > 0 || /^[0-9a-f]{16,}$/.test(part))];
}

/** Hex; 8 of base64url (Vite, Rollup) or base32 (esbuild, Angular); more than that with digits. No words, dates, dimensions. */
function isHash(token: string, least: number, isScript: boolean): boolean {
  if (token.length < least || token.length > 64 || !/^[\w-]+$/.test(token)) return false;
  const isMixed = /\d/.test(token) && /[A-Za-z]/.test(token);
  if (/^[0-9a-f]{8,}$/.test(token)) return isMixed;
  if (isScript && /^[A-Z2-7]{8}$/.test(token)) return true;
  if (token.length > 8 && (token.length < 16 || !isMixed)) return false;
  const parts = token.split(/[-_]/);
  if (isScript) return !parts.every(isWord);
  // Pictures, fonts and documents are named by people more often than scripts are.
  return /\d/.test(token) && /[A-Z]/.test(token) && !parts.every((part) => isWord(part) || isNumbered(part));
}

/** `chapter2`, `HomePage`, `LinkedIn`, `LOGO`, `1024x768`, `v12`, `20240131`, or nothing between two dashes. */
function isWord(part: string): boolean {
  return (
    /^(v?\d*|\d+x\d+|[A-Z]+\d{0,2}|[A-Za-z]?[a-z]*\d{0,2}|([A-Z]?[a-z]{3,})([A-Z][a-z]{2,})*\d{0,2})$/.test(part) ||
    /^[A-Z]?[a-z]{2,}[A-Z][a-z]+\d{0,2}$/.test(part)
  );
}

/** `ISO27001`, `DSC01234`, `2ndFloor`. */
function isNumbered(part: string): boolean {
  return /^([A-Za-z]+\d+|\d+[A-Za-z]+)$/.test(part);
}

/**
 * The files that a bundler says it wrote: Vite's `manifest.json`, webpack's `asset-manifest.json`.
 *
 * @param text JSON; anything else names nothing.
 */
export function listedFiles(text: string): string[] {
  try {
    return namesIn(JSON.parse(text));
  } catch {
    return [];
  }
}

function namesIn(value: unknown): string[] {
  if (typeof value === 'string') return [value.replace(/^\.?\//, '')];
  if (typeof value !== 'object' || value === null) return [];
  // Of Vite's these name entries of the manifest, or sources.
  const others = ['imports', 'dynamicImports', 'src', 'name'];
  return Object.entries(value).flatMap(([key, member]) => (others.includes(key) ? [] : namesIn(member)));
}
