import { createPrivateKey, X509Certificate } from 'node:crypto';
import { createSecureContext, type SecureContext } from 'node:tls';
import type { Api } from '../config/config.ts';
import { shownPath } from '../crypto/shown.ts';
import { readCertificates, readPrivateKey } from '../outbound/pem.ts';

/**
 * What a connection to the API trusts and shows (PX23): its CA instead of the system's, and our certificate for mutual
 * TLS. Read once, at start; made once, because a context for each connection would parse the files again.
 */
export function loadUpstreamTls(api: Api, key: string, warn: (setting: string) => void): SecureContext {
  const { caFile, clientCertificate } = api;
  const ca = caFile === undefined ? undefined : readCertificates(`${key}.caFile`, caFile);
  if (clientCertificate === undefined) return createSecureContext(ca === undefined ? {} : { ca });

  const [certKey, keyKey] = [`${key}.clientCertificate.certFile`, `${key}.clientCertificate.keyFile`];
  const cert = readCertificates(certKey, clientCertificate.certFile);
  const privateKey = readPrivateKey(keyKey, clientCertificate.keyFile);
  const certificate = new X509Certificate(cert);
  if (!certificate.checkPrivateKey(createPrivateKey(privateKey)))
    throw new Error(
      `${keyKey}: ${shownPath(clientCertificate.keyFile)} is not the key of the certificate in certFile: pair them`,
    );
  if (certificate.validToDate.getTime() < Date.now())
    warn(`${certKey}: the certificate expired on ${certificate.validTo}: the API will refuse it. Renew it and restart`);
  return createSecureContext({ ...(ca === undefined ? {} : { ca }), cert, key: privateKey });
}
