import { constants, type X509Certificate } from 'node:crypto';
import type { Server } from 'node:http';
import { isIP, type Socket } from 'node:net';
import { createSecureContext, type SecureContextOptions, type TlsOptions } from 'node:tls';
import type { Config } from '../config/config.ts';
import { type Pair, readPair } from '../outbound/pem.ts';

/** What is AEAD and forward secret (Mozilla’s "intermediate" of 2025). The five of TLS 1.3 are OpenSSL's own. */
const ciphers = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':');

/** Between two looks at the files. Milliseconds. They are read, not watched: links are swapped, and folders mounted. */
const lookEveryMs = 1000;

export interface TlsLog {
  warn(facts: object, message: string): void;
  info(facts: object, message: string): void;
  debug(facts: object, message: string): void;
}

export interface ListenerTls {
  /** For `https.createServer`. */
  options: TlsOptions;
  /** Looks for renewed files until the server closes, and keeps strangers' failed handshakes out of the log. */
  serve(server: Server, log: TlsLog): void;
}

type Listening = Pick<Config, 'listen' | 'frontends'>;

/** Reads the certificate of `listen.tls`. Throws with the setting and its cure, never with what is in a file. */
export function openListenerTls(config: Listening, handshakeTimeout: number): ListenerTls | undefined {
  const { tls } = config.listen;
  if (tls === undefined) return undefined;
  const read = () => readUsable(tls);
  let pair = read();
  return {
    options: { ...contextOptions(pair), handshakeTimeout, ALPNProtocols: ['http/1.1'] },
    serve(server, log) {
      const said = new Set<string>();
      const warn = () => {
        for (const setting of certificateFaults(pair.certificate, config)) {
          if (!said.has(setting)) log.warn({ setting }, 'configuration warning');
          said.add(setting);
        }
      };
      let fault: string | undefined;
      const look = () => {
        try {
          const now = read();
          fault = undefined;
          if (now.cert !== pair.cert || now.key !== pair.key) {
            (server as unknown as { setSecureContext(options: SecureContextOptions): void }).setSecureContext(
              contextOptions(now),
            );
            pair = now;
            said.clear();
            log.info({ validTo: now.certificate.validTo }, 'the certificate of listen.tls was replaced');
          }
        } catch (error) {
          // Certificate and key are not written in one moment: what is the same at the next look is meant.
          const reason = error instanceof Error ? error.message : 'unknown';
          if (reason === fault && !said.has(reason)) {
            log.warn({ setting: reason }, 'the certificate of listen.tls can’t be replaced, the last one is kept');
            said.add(reason);
          }
          fault = reason;
        }
        warn();
      };
      warn();
      const timer = setInterval(look, lookEveryMs).unref();
      server.once('close', () => clearInterval(timer));
      // Scanners, old clients, and http spoken to https: nobody's fault here, and there is no request yet to be answered.
      // First of all: what https does here is to take it for a malformed request.
      server.prependListener('tlsClientError', ({ code }: NodeJS.ErrnoException, socket: Socket) => {
        log.debug({ code }, 'a TLS handshake failed');
        socket.destroy();
      });
    },
  };
}

/** What browsers will not like about the certificate, each with its cure. */
export function listenerTlsWarnings(config: Listening): string[] {
  const { tls } = config.listen;
  return tls === undefined ? [] : certificateFaults(readUsable(tls).certificate, config);
}

function readUsable(files: { certFile: string; keyFile: string }): Pair {
  const pair = readPair('listen.tls', files);
  try {
    createSecureContext(contextOptions(pair));
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
    throw new Error(`listen.tls.certFile: OpenSSL does not take it (${code}): get one with a usual key and signature`);
  }
  return pair;
}

function contextOptions({ cert, key }: Pair): SecureContextOptions {
  return {
    cert,
    key,
    ciphers,
    minVersion: 'TLSv1.2',
    // A client could have us shake hands again and again on one connection.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION,
  };
}

function certificateFaults(certificate: X509Certificate, { frontends }: Listening): string[] {
  const { validFrom, validTo, validFromDate, validToDate } = certificate;
  const is = (text: string) => `listen.tls.certFile: the certificate ${text}`;
  const faults: string[] = [];
  if (validToDate.getTime() < Date.now()) faults.push(is(`expired on ${validTo}: browsers refuse it. Renew it`));
  if (validFromDate.getTime() > Date.now())
    faults.push(is(`is not valid before ${validFrom}: browsers refuse it. Wait, or correct the clock`));
  for (const name of new Set(frontends.map(({ origin }) => new URL(origin).hostname.replace(/^\[(.*)\]$/, '$1')))) {
    // Browsers look at the alternative names alone.
    const isFor = isIP(name) === 0 ? certificate.checkHost(name, { subject: 'never' }) : certificate.checkIP(name);
    if (isFor === undefined)
      faults.push(is(`is not for ${name} of publicUrl: browsers refuse it. Get one with this name`));
  }
  return faults;
}
