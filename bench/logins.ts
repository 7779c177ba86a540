import { request } from 'undici';

/** A browser's cookies, by host name: ports do not divide them (RFC 6265 §8.5). */
type Jar = Map<string, Map<string, string>>;

/** More redirects than any of the logins has. */
const mostSteps = 15;

/**
 * A real login, from the first redirect to the cookie: follows redirects, and fills in the provider's form when it
 * shows. Returns the Cookie header that the proxy's host gets from then on.
 */
export async function logIn(startUrl: string, username = 'alice'): Promise<string> {
  const jar: Jar = new Map();
  const { host: ownHost, hostname: ownName } = new URL(startUrl);
  let answer = await step(jar, startUrl);
  let hasGivenPassword = false;
  for (let count = 0; count < mostSteps; count++) {
    if (answer.location !== undefined) {
      answer = await step(jar, answer.location);
      continue;
    }
    if (new URL(answer.url).host === ownHost) {
      if (!hasGivenPassword) break;
      return cookieHeader(jar, ownName);
    }
    const action = /<form method="post" action="([^"]+)"/.exec(answer.text)?.[1];
    if (answer.status !== 200 || action === undefined || hasGivenPassword) break;
    hasGivenPassword = true;
    const form = new URLSearchParams({ username, password: username }).toString();
    answer = await step(jar, new URL(action, answer.url).href, form);
  }
  throw new Error(`the login ended at ${answer.url.split('?')[0]} with ${answer.status}: ${answer.text.slice(0, 300)}`);
}

/** Begins a login and leaves it at that. */
export async function beginLogin(startUrl: string): Promise<void> {
  const { status, text } = await step(new Map(), startUrl);
  if (status !== 303) throw new Error(`a login did not begin: ${status} ${text.slice(0, 300)}`);
}

/** So many logins, one after the other; a Cookie header for each. */
export async function logInTimes(count: number, startUrl: string): Promise<string[]> {
  const cookies: string[] = [];
  for (let index = 0; index < count; index++) cookies.push(await logIn(startUrl));
  return cookies;
}

interface Answer {
  url: string;
  status: number;
  text: string;
  /** Where to go next, absolute. */
  location: string | undefined;
}

async function step(jar: Jar, url: string, form?: string): Promise<Answer> {
  const { hostname, origin } = new URL(url);
  const cookie = cookieHeader(jar, hostname);
  const { statusCode, headers, body } = await request(url, {
    method: form === undefined ? 'GET' : 'POST',
    headers: {
      accept: 'text/html',
      'sec-fetch-mode': 'navigate',
      'sec-fetch-dest': 'document',
      ...(cookie === '' ? {} : { cookie }),
      ...(form === undefined ? {} : { origin, 'content-type': 'application/x-www-form-urlencoded' }),
    },
    ...(form === undefined ? {} : { body: form }),
  });
  keepCookies(jar, hostname, [headers['set-cookie'] ?? []].flat());
  const { location } = headers;
  const target = typeof location === 'string' ? new URL(location, url).href : undefined;
  return { url, status: statusCode, text: await body.text(), location: target };
}

function keepCookies(jar: Jar, hostname: string, lines: string[]): void {
  const cookies = jar.get(hostname) ?? new Map<string, string>();
  jar.set(hostname, cookies);
  for (const line of lines) {
    const [, name = '', value = ''] = /^([^=;]+)=([^;]*)/.exec(line) ?? [];
    const isGone = value === '' || /;\s*max-age=0\b/i.test(line) || /;\s*expires=Thu, 01 Jan 1970/i.test(line);
    if (isGone) cookies.delete(name);
    else cookies.set(name, value);
  }
}

function cookieHeader(jar: Jar, hostname: string): string {
  return [...(jar.get(hostname) ?? [])].map(([name, value]) => `${name}=${value}`).join('; ');
}
