import type { FastifyInstance } from 'fastify';
import { type buildGuards, claimsOf } from './guard.ts';

interface Order {
  id: number;
  item: string;
  quantity: number;
  createdBy: string;
}

/** Orders: clerks and admins read, and so may an application with the role `reader`; clerks create, only admins delete. */
export function ordersRoutes(app: FastifyInstance, guards: ReturnType<typeof buildGuards>, answeredBy: string): void {
  const orders = new Map<number, Order>();
  let lastId = 0;

  function add(item: string, quantity: number, createdBy: string): Order {
    const order = { id: ++lastId, item, quantity, createdBy };
    orders.set(order.id, order);
    // Anybody may press the button all day; the oldest order makes room.
    if (orders.size > MAX_ORDERS) orders.delete(orders.keys().next().value ?? 0);
    return order;
  }

  add('Winter coat', 1, 'alice');
  add('Umbrella', 2, 'bob');

  app.get('/orders', { onRequest: guards.requireRole('clerk', 'admin', 'reader') }, async () => ({
    answeredBy,
    orders: [...orders.values()],
  }));

  app.post<{ Body: { item: string; quantity: number } }>(
    '/orders',
    { onRequest: guards.requireRole('clerk'), schema: { body: NEW_ORDER } },
    async (request, reply) => {
      const order = add(request.body.item, request.body.quantity, String(claimsOf(request).sub));
      return reply.code(201).send({ answeredBy, order });
    },
  );

  app.delete<{ Params: { id: number } }>(
    '/orders/:id',
    { onRequest: guards.requireRole('admin'), schema: { params: ORDER_ID } },
    async (request, reply) => {
      if (orders.delete(request.params.id)) return { answeredBy, deleted: request.params.id };
      return reply.code(404).send({ error: 'not_found', message: 'There is no such order.', answeredBy });
    },
  );
}

const MAX_ORDERS = 100;

const NEW_ORDER = {
  type: 'object',
  required: ['item', 'quantity'],
  additionalProperties: false,
  properties: {
    item: { type: 'string', minLength: 1, maxLength: 80 },
    quantity: { type: 'integer', minimum: 1, maximum: 99 },
  },
};

const ORDER_ID = { type: 'object', properties: { id: { type: 'integer', minimum: 1 } } };
