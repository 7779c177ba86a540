import { createSecureContext, type SecureContext } from 'node:tls';
import type { Api } from '../config/config.ts';
import { readCertificates, readPair } from '../outbound/pem.ts';

/**
 * What a connection to the API trusts and shows (PX23): its CA instead of the system's, and our certificate for mutual
 * TLS. Read once, at start; made once, because a context for each connection would parse the files again.
 */
export function loadUpstreamTls(api: Api, key: string, warn: (setting: string) => void): SecureContext {
  const { caFile, clientCertificate } = api;
  const ca = caFile === undefined ? undefined : readCertificates(`${key}.caFile`, caFile);
  if (clientCertificate === undefined) return createSecureContext(ca === undefined ? {} : { ca });

  const { cert, key: privateKey, certificate } = readPair(`${key}.clientCertificate`, clientCertificate);
  if (certificate.validToDate.getTime() < Date.now())
    warn(
      `${key}.clientCertificate.certFile: the certificate expired on ${certificate.validTo}: the API will refuse it. Renew it and restart`,
    );
  return createSecureContext({ ...(ca === undefined ? {} : { ca }), cert, key: privateKey });
}
