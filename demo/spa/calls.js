/**
 * Every call of the demo. A path under /api is Cloakroom's; it finds the API, attaches the token that belongs to it and
 * passes the answer through. This file has no token to send, and nowhere to get one.
 */
export const CALL_GROUPS = [
  {
    title: 'Orders API',
    calls: [
      { id: 'call-me-orders', label: 'Who am I?', needs: 'a login', path: '/api/orders/me', showsClaims: true },
      { id: 'call-orders', label: 'List orders', needs: 'clerk or admin', path: '/api/orders/orders' },
      {
        id: 'call-orders-create',
        label: 'Create an order',
        needs: 'clerk',
        method: 'POST',
        path: '/api/orders/orders',
        body: { item: 'Hat', quantity: 1 },
      },
      {
        id: 'call-orders-delete',
        label: 'Delete order 1',
        needs: 'admin',
        method: 'DELETE',
        path: '/api/orders/orders/1',
      },
    ],
  },
  {
    title: 'Catalog API',
    calls: [
      { id: 'call-me-catalog', label: 'Who am I?', needs: 'guests too', path: '/api/catalog/me', showsClaims: true },
      { id: 'call-products', label: 'List products', needs: 'guests too', path: '/api/catalog/products' },
      {
        id: 'call-products-put',
        label: 'Change a price',
        needs: 'admin',
        method: 'PUT',
        path: '/api/catalog/products/1',
        body: { price: 175 },
        changesCatalog: true,
      },
      { id: 'call-news', label: 'Read the news', needs: 'no token', path: '/api/public/news' },
    ],
  },
  {
    title: 'What Cloakroom refuses',
    calls: [
      {
        id: 'call-without-ticket',
        label: 'Call without cookie',
        needs: 'gives 401',
        path: '/api/orders/me',
        withoutTicket: true,
      },
      {
        id: 'call-without-csrf-header',
        label: 'POST without x-csrf',
        needs: 'gives 403',
        method: 'POST',
        path: '/api/orders/orders',
        body: { item: 'Hat', quantity: 1 },
        withoutCsrfHeader: true,
      },
    ],
  },
];

/** Makes one call and says what came back and who answered: Cloakroom itself or the API behind it. */
export async function send({ method = 'GET', path, body, withoutTicket = false, withoutCsrfHeader = false }) {
  const headers = { accept: 'application/json' };
  // A page of another site cannot add this header, which is how Cloakroom knows the call is meant.
  if (!withoutCsrfHeader) headers['x-csrf'] = '1';
  if (body) headers['content-type'] = 'application/json';
  try {
    const response = await fetch(path, {
      method,
      headers,
      body: body && JSON.stringify(body),
      credentials: withoutTicket ? 'omit' : 'same-origin',
      cache: 'no-store',
    });
    const text = await response.text();
    const json = parseJson(text);
    return { status: response.status, ok: response.ok, text, json, answeredBy: whoAnswered(response, json) };
  } catch (error) {
    // The request never got an answer: the server is down or the network is.
    return { status: 0, ok: false, text: String(error), json: undefined, answeredBy: 'nobody' };
  }
}

function whoAnswered(response, json) {
  const type = response.headers.get('content-type') ?? '';
  if (type.startsWith('application/problem+json') && typeof json?.code === 'string') return 'Cloakroom';
  if (typeof json?.answeredBy === 'string') return json.answeredBy;
  return new URL(response.url).pathname.startsWith('/bff/') ? 'Cloakroom' : 'unknown';
}

function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
