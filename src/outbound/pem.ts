import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { shownPath } from '../crypto/shown.ts';

/**
 * A PEM file with one or more certificates. Node takes a CA without a certificate in it for "trust nobody", and says
 * nothing. Throws with the cure, without what stands in the file.
 */
export function readCertificates(key: string, file: string): string {
  return readPem(key, file, (pem) => {
    const certificates = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? [''];
    for (const certificate of certificates) new X509Certificate(certificate);
  });
}

/** A PEM file with a private key, without a passphrase. */
export function readPrivateKey(key: string, file: string): string {
  return readPem(key, file, createPrivateKey);
}

/** A certificate (its own first, then intermediates) and its key, as PEM. */
export interface Pair {
  cert: string;
  key: string;
  certificate: X509Certificate;
}

/** Reads both, and throws where they don't belong together. `key`: of the setting that has `certFile` and `keyFile`. */
export function readPair(key: string, { certFile, keyFile }: { certFile: string; keyFile: string }): Pair {
  const cert = readCertificates(`${key}.certFile`, certFile);
  const privateKey = readPrivateKey(`${key}.keyFile`, keyFile);
  const certificate = new X509Certificate(cert);
  if (!certificate.checkPrivateKey(createPrivateKey(privateKey)))
    throw new Error(
      `${key}.keyFile: ${shownPath(keyFile)} is not the key of the first certificate in certFile: pair them`,
    );
  return { cert, key: privateKey, certificate };
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
