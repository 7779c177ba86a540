import { randomInt } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Answer, decode, encode } from 'dns-packet';
import { startProcess } from './process.ts';

/** A name server whose names a test moves. */
export interface DnsServer {
  /** Addresses by name; others do not exist. */
  names: Map<string, string[]>;
  /** Names that were asked for, in order. */
  asked: string[];
  /** What a command is put behind to ask this server, the way that every program asks: getaddrinfo and resolv.conf. */
  within: string[];
  stop(): Promise<void>;
}

/**
 * Starts one on an address of loopback of its own: resolv.conf knows no ports. Programs find it by a resolv.conf that is
 * mounted for them alone, which takes root, as CI has it.
 */
export async function startDnsServer(): Promise<DnsServer> {
  const names = new Map<string, string[]>();
  const asked: string[] = [];
  const socket = createSocket('udp4');
  socket.on('message', (message, { port, address }) => {
    const { id, questions = [] } = decode(message);
    const [question] = questions;
    if (question === undefined) return;
    const addresses = names.get(question.name.toLowerCase());
    asked.push(question.name);
    const answers = (addresses ?? [])
      .filter((one) => question.type === (isIPv6(one) ? 'AAAA' : 'A'))
      .map((data) => ({ type: question.type, name: question.name, ttl: 1, data }) as Answer);
    const rcode = addresses === undefined ? 3 : 0; // NXDOMAIN
    const flags = 0x0580 | rcode; // authoritative, recursion available
    socket.send(encode({ type: 'response', id, flags, questions, answers }), port, address);
  });
  const host = `127.53.${randomInt(256)}.${randomInt(1, 255)}`;
  socket.bind(53, host);
  await once(socket, 'listening');

  const folder = await mkdtemp(join(tmpdir(), 'cloakroom-dns-'));
  const file = join(folder, 'resolv.conf');
  await writeFile(file, `nameserver ${host}\noptions timeout:2 attempts:2\n`);
  const mounted = 'mount --bind "$0" /etc/resolv.conf && exec "$@"';
  const within = ['unshare', '--mount', 'sh', '-c', mounted, file];
  const stop = async () => {
    await new Promise<void>((resolve) => socket.close(resolve));
    await rm(folder, { recursive: true, force: true });
  };
  const [command = '', ...args] = within;
  const trial = startProcess(command, [...args, 'cat', '/etc/resolv.conf']);
  if ((await trial.ended) !== 0 || !trial.stdout().includes(host)) {
    await stop();
    throw new Error(`this test needs root and unshare(1), to mount a resolv.conf of its own: ${trial.stderr()}`);
  }
  return { names, asked, within, stop };
}
