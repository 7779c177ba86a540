import type { AddressInfo } from 'node:net';
import { createServer } from 'node:tls';
import type { KeyAndCertificate } from '../../support/certificates.ts';

/** An https server that writes header lines byte for byte, and keeps the `Cookie` line of the last request to each host as it came. */
export interface RawSite {
  port: number;
  /** Latin-1 values of the `Set-Cookie` lines of the next answers. */
  setCookies: string[];
  /** Latin-1, as Node's parser gives it; empty without one. By host: a sibling's tab may still ask for its icon. */
  lastCookieHeader(host: string): string;
  stop(): Promise<void>;
}

export async function startRawSite(pair: KeyAndCertificate): Promise<RawSite> {
  const cookieHeaders = new Map<string, string>();
  const server = createServer({ ...pair, ALPNProtocols: ['http/1.1'] }, (socket) => {
    let head = '';
    socket.on('error', () => socket.destroy());
    socket.on('data', (chunk: Buffer) => {
      head += chunk.toString('latin1');
      if (!head.includes('\r\n\r\n')) return;
      const host = /^host:[ \t]*(.*?)[ \t]*\r$/im.exec(head)?.[1] ?? '';
      cookieHeaders.set(host, /^cookie:[ \t]*(.*?)[ \t]*\r$/im.exec(head)?.[1] ?? '');
      const lines = site.setCookies.map((value) => `Set-Cookie: ${value}\r\n`).join('');
      const rest = 'Content-Type: text/html\r\nContent-Length: 0\r\nConnection: close\r\n\r\n';
      socket.end(Buffer.from(`HTTP/1.1 200 OK\r\n${lines}${rest}`, 'latin1'));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const site: RawSite = {
    port: (server.address() as AddressInfo).port,
    setCookies: [],
    lastCookieHeader: (host) => cookieHeaders.get(host) ?? '',
    stop: () => new Promise((resolve) => server.close(() => resolve())),
  };
  return site;
}
