import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext, type SecureContext } from 'node:tls';
import type { Api } from '../config/config.ts';
import { shownPath } from '../crypto/shown.ts';

/**
 * What a connection to the API trusts and shows (PX23): its CA instead of the system's, and our certificate for mutual
 * TLS. Read once, at start; made once, because a context for each connection would parse the files again.
 */
export function loadUpstreamTls(api: Api, key: string, warn: (setting: string) => void): SecureContext {
  const { caFile, clientCertificate } = api;
  const ca = caFile === undefined ? undefined : readPem(`${key}.caFile`, caFile, checkCertificates);
  if (clientCertificate === undefined) return createSecureContext(ca === undefined ? {} : { ca });

  const [certKey, keyKey] = [`${key}.clientCertificate.certFile`, `${key}.clientCertificate.keyFile`];
  const cert = readPem(certKey, clientCertificate.certFile, checkCertificates);
  const privateKey = readPem(keyKey, clientCertificate.keyFile, createPrivateKey);
  const certificate = new X509Certificate(cert);
  if (!certificate.checkPrivateKey(createPrivateKey(privateKey)))
    throw new Error(
      `${keyKey}: ${shownPath(clientCertificate.keyFile)} is not the key of the certificate in certFile: pair them`,
    );
  if (certificate.validToDate.getTime() < Date.now())
    warn(`${certKey}: the certificate expired on ${certificate.validTo}: the API will refuse it. Renew it and restart`);
  return createSecureContext({ ...(ca === undefined ? {} : { ca }), cert, key: privateKey });
}

function readPem(key: string, file: string, check: (pem: string) => unknown): string {
  let pem: string;
  try {
    pem = readFileSync(file, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unreadable';
    throw new Error(`${key}: can't read ${shownPath(file)} (${code}): correct the path or its permissions`);
  }
  try {
    check(pem);
  } catch {
    // The reason is left out: OpenSSL may put pieces of what it read into it.
    throw new Error(
      `${key}: ${shownPath(file)} has no usable PEM: a certificate, or a private key without a passphrase, is needed`,
    );
  }
  return pem;
}

/** Node takes a CA without a certificate in it for "trust nobody", and says nothing. */
function checkCertificates(pem: string): void {
  const certificates = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [''];
  for (const certificate of certificates) new X509Certificate(certificate);
}
