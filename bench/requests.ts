/** The path of the call that is measured, at the proxies and at the upstream. */
export const apiPath = '/api/orders';

/** The request of a browser's `fetch('/api/orders/42', { headers: { 'x-csrf': '1' } })`, for each session the same but its cookie. */
export function buildRequests(port: number, cookies: readonly string[]): string[] {
  return cookies.map((cookie) => `GET ${apiPath}/42 HTTP/1.1\r\n${browserHeaders(port, cookie)}\r\n`);
}

function browserHeaders(port: number, cookie: string): string {
  return Object.entries(browserFields(port, cookie))
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('');
}

/** Headers that Chromium sends with a `fetch` of the frontend’s own page. */
export function browserFields(port: number, cookie: string): Record<string, string> {
  const origin = `http://localhost:${port}`;
  return {
    host: `localhost:${port}`,
    'user-agent':
      'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/146.0.0.0 Safari/537.36',
    accept: 'application/json',
    'accept-language': 'en-GB,en;q=0.9,de;q=0.8',
    'accept-encoding': 'gzip, deflate, br, zstd',
    referer: `${origin}/orders`,
    'sec-ch-ua': '"Chromium";v="146", "Not/A)Brand";v="24"',
    'sec-ch-ua-mobile': '?0',
    'sec-ch-ua-platform': '"Linux"',
    'sec-fetch-dest': 'empty',
    'sec-fetch-mode': 'cors',
    'sec-fetch-site': 'same-origin',
    'x-csrf': '1',
    cookie,
  };
}

/** For proxies that look at no cookie: as long as Cloakroom's, so that the same bytes arrive. */
export const anyCookie = `cloakroom=${'a'.repeat(32)}.${'b'.repeat(43)}`;
