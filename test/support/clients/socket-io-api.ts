import { Server } from 'socket.io';
import { type ApiServer, startApiServer } from './api-server.ts';

export interface SocketIoApi extends ApiServer {
  io: Server;
  /** As if it began anew: it knows no connection any more. */
  forget(): void;
}

/** An API by socket.io, at its usual path. */
export async function startSocketIo(): Promise<SocketIoApi> {
  const api = await startApiServer();
  const io = new Server(api.server, { serveClient: false });
  // It has put itself before the listener that notes requests.
  api.server.prependListener('request', ({ method, url, headers }) => api.requests.push({ method, url, headers }));
  io.use((socket, next) => {
    if (socket.handshake.auth.room !== 'closed') return next();
    next(Object.assign(new Error('the room is closed'), { data: { opens: 'tomorrow' } }));
  });
  io.on('connection', (socket) => {
    socket.on('echo', (value: unknown, answer: (value: unknown) => void) => answer(value));
    socket.on('say', (text: string) => io.emit('said', text));
    socket.on('leave', () => socket.disconnect(true));
  });
  return {
    ...api,
    io,
    forget() {
      for (const socket of Object.values((io.engine as unknown as { clients: object }).clients)) socket.close(true);
      api.cut();
    },
    async stop() {
      io.disconnectSockets(true);
      io.engine.close();
      await api.stop();
    },
  };
}
