import { connect, type Socket } from 'node:net';
import { startProcess } from './process.ts';
import { until } from './wait.ts';

/**
 * An address where packets vanish: a process that listens, is stopped (SIGSTOP) and whose queue of connections is
 * full, so that the kernel answers no further SYN.
 */
export async function startVanishingPeer(host = '127.0.0.1'): Promise<{ port: number; stop(): Promise<void> }> {
  const listen = `require('node:net').createServer().listen({port:0,host:'${host}',backlog:1},function(){console.log(this.address().port)})`;
  const peer = startProcess(process.execPath, ['-e', listen]);
  const port = Number(await until(() => peer.stdout().trim(), { message: 'the peer to listen' }));
  peer.child.kill('SIGSTOP');
  const fillers: Socket[] = [];
  let opened = 0;
  for (let count = 0; count < 8; count++) {
    const filler = connect(port, host, () => opened++).on('error', () => undefined);
    fillers.push(filler);
  }
  // The kernel takes some of them at once and never the others.
  await until(() => opened >= 2, { message: 'the queue to fill' });
  return {
    port,
    async stop() {
      for (const filler of fillers) filler.destroy();
      await peer.kill();
    },
  };
}
