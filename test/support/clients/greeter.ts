import type { HandlerContext } from '@connectrpc/connect';
import { connectNodeAdapter } from '@connectrpc/connect-node';
import { type ApiServer, startApiServer } from './api-server.ts';
import { Greeter, type Line } from './greeter-schema.ts';

/** How the service answers; a test changes what it is about. */
export interface GreeterApi extends ApiServer {
  say(line: Line, context: HandlerContext): Promise<Line>;
  count(line: Line, context: HandlerContext): AsyncGenerator<Line>;
}

/** The service on @connectrpc/connect-node: it speaks Connect, gRPC-Web and gRPC, each caller in its own. */
export async function startGreeter(): Promise<GreeterApi> {
  const handler = connectNodeAdapter({
    routes: (router) =>
      router.service(Greeter, {
        say: (message: unknown, context: HandlerContext) => api.say(message as Line, context),
        look: (message: unknown, context: HandlerContext) => api.say(message as Line, context),
        count: (message: unknown, context: HandlerContext) => api.count(message as Line, context),
      } as never),
  });
  const api: GreeterApi = {
    ...(await startApiServer(handler)),
    say: async ({ text }) => ({ text: `hello ${text}` }),
    async *count() {
      for (const text of ['one', 'two', 'three']) yield { text };
    },
  };
  return api;
}
