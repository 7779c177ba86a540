import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { type buildGuards, claimsOf } from './guard.ts';

interface Product {
  id: number;
  name: string;
  price: number;
}

/** The catalog: everybody with a token reads, admins change prices, and the news needs no token at all. */
export function catalogRoutes(app: FastifyInstance, guards: ReturnType<typeof buildGuards>, answeredBy: string): void {
  const products = new Map<number, Product>([
    [1, { id: 1, name: 'Winter coat', price: 180 }],
    [2, { id: 2, name: 'Umbrella', price: 25 }],
    [3, { id: 3, name: 'Scarf', price: 30 }],
  ]);

  app.get('/products', { onRequest: guards.requireToken }, async (request) => {
    const { sub, client_id: clientId } = claimsOf(request);
    // A token without a user is about the client itself (RFC 9068 section 2.2).
    return { answeredBy, products: [...products.values()], caller: { sub, isApplication: sub === clientId } };
  });

  app.put<{ Params: { id: number }; Body: { price: number } }>(
    '/products/:id',
    { onRequest: guards.requireRole('admin'), schema: { params: PRODUCT_ID, body: NEW_PRICE } },
    async (request, reply) => {
      const product = products.get(request.params.id);
      if (!product) return reply.code(404).send({ error: 'not_found', message: 'No such product.', answeredBy });
      const changed = { ...product, price: request.body.price };
      products.set(product.id, changed);
      return { answeredBy, product: changed };
    },
  );

  app.get('/public/news', async (request) => ({
    answeredBy,
    news: ['The cloakroom is open.', 'Coats without a ticket are not handed out.'],
    // Shows that a route marked "no token" really sends none, also for somebody who is logged in.
    sawAuthorizationHeader: request.headers.authorization !== undefined,
  }));

  app.get('/events', { onRequest: guards.requireToken }, (_request, reply) => {
    reply.header('content-type', 'text/event-stream').header('cache-control', 'no-store').send(buildTicks());
  });
}

/** Time between two events of `/events`. */
const TICK_MS = 250;

/** Server-sent events until the reader leaves: Fastify destroys the stream together with the connection. */
function buildTicks(): Readable {
  let tick = 0;
  let timer: NodeJS.Timeout | undefined;
  return new Readable({
    read() {
      timer ??= setInterval(() => this.push(`event: tick\ndata: {"tick":${++tick}}\n\n`), TICK_MS);
    },
    destroy(error, done) {
      clearInterval(timer);
      done(error);
    },
  });
}

const PRODUCT_ID = { type: 'object', properties: { id: { type: 'integer', minimum: 1 } } };

const NEW_PRICE = {
  type: 'object',
  required: ['price'],
  additionalProperties: false,
  properties: { price: { type: 'number', minimum: 0, maximum: 10_000 } },
};
