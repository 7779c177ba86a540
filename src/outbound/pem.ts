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
