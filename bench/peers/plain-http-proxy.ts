import fastifyHttpProxy from '@fastify/http-proxy';
import fastify from 'fastify';

// @fastify/http-proxy as its README shows it: its own undici, its own defaults, no log, no session.

const [port = '', upstream = ''] = process.argv.slice(2);
const server = fastify({ exposeHeadRoutes: false });
await server.register(fastifyHttpProxy, { upstream, undici: { connections: 256, pipelining: 1 } });
await server.listen({ port: Number(port), host: '127.0.0.1' });
process.once('SIGTERM', () => process.exit(0));
