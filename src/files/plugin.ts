import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import fastifyStatic from '@fastify/static';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { FrontendContext } from '../frontend/context.ts';
import { isNavigation } from '../http/request-source.ts';
import { problem, RouteUnknown } from '../problems/errors.ts';
import { fileHeaders } from '../problems/security-headers.ts';
import { createFileLookup } from './lookup.ts';

/**
 * Serves the built SPA. The files are those that stand there at start: a request can only name one of them, so it
 * can't reach any other. Navigations to unknown paths get index.html, for routers in the browser.
 */
export async function filesPlugin(scope: FastifyInstance, { frontend }: FrontendContext): Promise<void> {
  const root = resolve(frontend.files ?? '');
  if (!existsSync(join(root, 'index.html'))) {
    throw new Error('files: the folder has no index.html: build the SPA first or correct the path');
  }
  const headers = Object.entries(fileHeaders(frontend.isSecure));
  scope.addHook('onRoute', (route) => {
    route.config = { ...route.config, kind: 'file', frontend: frontend.name };
  });
  await scope.register(fastifyStatic, {
    root,
    serve: false, // its routes would be made of the names
    cacheControl: false,
    setHeaders(reply, path) {
      for (const [name, value] of headers) reply.header(name, value);
      // Browsers ask whether a page changed; what a bundler named after its content never changes.
      const isHashed = /[.-](?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{8,}\.(js|css|woff2?|png|svg|jpg|webp|avif)$/.test(path);
      reply.header('cache-control', isHashed ? 'public, max-age=31536000, immutable' : 'no-cache');
    },
  });
  const files = await createFileLookup(root);
  async function answer(request: FastifyRequest, reply: FastifyReply) {
    const { '*': path = '' } = request.params as { '*'?: string }; // the router decoded it, once
    const name =
      (await files.find(path)) ?? (isNavigation(request.headers) ? await files.find('index.html') : undefined);
    if (name === undefined) throw problem(RouteUnknown);
    return reply.sendFile(`/${name}`);
  }
  for (const url of ['/', '/*']) scope.route({ method: ['GET', 'HEAD'], url, handler: answer });
}
