import { createRequire } from 'node:module';
import { createHandler } from 'graphql-sse/lib/use/http';
import { useServer } from 'graphql-ws/use/ws';
import { type WebSocket, WebSocketServer } from 'ws';
import { type ApiServer, startApiServer } from './api-server.ts';

// As Node resolves it: Vite would take another build of it than the libraries do, and those know only their own schemas.
const { GraphQLObjectType, GraphQLSchema, GraphQLString } = createRequire(import.meta.url)(
  'graphql',
) as typeof import('graphql');

/** What `Subscription.lines` gives; a test changes what it is about. */
export interface GraphqlApi extends ApiServer {
  lines(): AsyncGenerator<string>;
  /** Whom `connection_init` lets in. */
  accepts(): boolean;
  /** Those that are open. */
  sockets: Set<WebSocket>;
}

/** A GraphQL API at /graphql: over WebSockets by graphql-ws, over HTTP by graphql-sse. */
export async function startGraphql(): Promise<GraphqlApi> {
  const schema = new GraphQLSchema({
    query: new GraphQLObjectType({
      name: 'Query',
      fields: {
        hello: { type: GraphQLString, resolve: () => 'world' },
        broken: {
          type: GraphQLString,
          resolve() {
            throw new Error('this field is broken');
          },
        },
      },
    }),
    subscription: new GraphQLObjectType({
      name: 'Subscription',
      fields: {
        lines: {
          type: GraphQLString,
          async *subscribe() {
            for await (const lines of api.lines()) yield { lines };
          },
        },
      },
    }),
  });
  const overHttp = createHandler({ schema });
  const api: GraphqlApi = {
    ...(await startApiServer((request, response) => void overHttp(request, response).catch(() => response.destroy()))),
    async *lines() {
      yield* ['one', 'two', 'three'];
    },
    accepts: () => true,
    sockets: new Set(),
  };
  const server = new WebSocketServer({ server: api.server, path: '/graphql' });
  server.on('connection', (socket) => {
    api.sockets.add(socket);
    socket.on('close', () => api.sockets.delete(socket));
  });
  useServer({ schema, onConnect: () => api.accepts() }, server);
  return api;
}
