import { accessSync, constants, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { type Config, type Frontend, graceFault } from '../config/config.ts';
import type { CrossProblem } from '../config/document.ts';
import { buildClientAuthentication } from '../issuer/client-authentication.ts';
import { listenerTlsWarnings } from '../listener/tls.ts';
import { readCertificates, readPair, readPrivateKey } from '../outbound/pem.ts';
import { loadUpstreamTls } from '../upstream/tls.ts';

/**
 * What is wrong with the files that the configuration names: missing, unreadable, or not what they should be. And what a
 * start only warns of.
 */
export async function checkFiles(config: Config): Promise<{ problems: CrossProblem[]; warnings: string[] }> {
  const { session, frontends } = config;
  const tooShort = graceFault(config);
  const problems: CrossProblem[] = tooShort === undefined ? [] : [tooShort];
  const warnings: string[] = [];
  const attempt = (path: PropertyKey[], read: () => unknown) => {
    try {
      read();
      return true;
    } catch (error) {
      // Without the key in front: the problem has its own.
      problems.push({ path, message: (error as Error).message.replace(/^[\w.-]*: /, '') });
      return false;
    }
  };
  const certificates = (path: PropertyKey[], file: string | undefined) =>
    file === undefined || attempt(path, () => readCertificates('', file));

  /** Each file, then both together: the key has to be that of the certificate. */
  const pair = (path: PropertyKey[], files: { certFile: string; keyFile: string }, use: () => unknown) => {
    const areReadable = [
      certificates([...path, 'certFile'], files.certFile),
      attempt([...path, 'keyFile'], () => readPrivateKey('', files.keyFile)),
    ];
    if (areReadable.every(Boolean) && attempt([...path, 'keyFile'], () => readPair('', files)))
      attempt([...path, 'certFile'], use);
  };

  const { tls } = config.listen;
  if (tls !== undefined) pair(['listen', 'tls'], tls, () => warnings.push(...listenerTlsWarnings(config)));
  certificates(['session', 'redis', 'caFile'], session.redis?.caFile);
  for (const frontend of frontends) {
    const path = pathOf(frontend);
    const { authorizationServer, bearerIssuers, apis, files } = frontend;
    certificates([...path, 'authorizationServer', 'caFile'], authorizationServer.caFile);
    if (authorizationServer.privateKey !== undefined)
      await buildClientAuthentication(authorizationServer).catch(() =>
        problems.push({
          path: [...path, 'authorizationServer', 'privateKey'],
          message: `is no PEM (PKCS #8) key for ${authorizationServer.privateKeyAlgorithm}: convert it with "openssl pkcs8 -topk8 -nocrypt", or correct privateKeyAlgorithm`,
        }),
      );
    for (const { name, caFile } of bearerIssuers) certificates([...path, 'bearerIssuers', name, 'caFile'], caFile);
    for (const api of apis) {
      const at = [...path, 'apis', api.name];
      const { caFile, clientCertificate } = api;
      const key = at.map(String).join('.');
      const isTrustReadable = certificates([...at, 'caFile'], caFile);
      if (clientCertificate !== undefined)
        pair(
          [...at, 'clientCertificate'],
          clientCertificate,
          () => isTrustReadable && loadUpstreamTls(api, key, (warning) => warnings.push(warning)),
        );
    }
    if (files !== undefined) attempt([...path, 'files'], () => readFolder(files.folder));
  }
  return { problems, warnings };
}

/** Where a frontend stands in the file. */
export function pathOf({ name }: Pick<Frontend, 'name'>): string[] {
  return name === 'default' ? [] : ['frontends', name];
}

function readFolder(folder: string): void {
  const codeOf = (read: () => unknown) => {
    try {
      read();
      return undefined;
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? 'unreadable';
    }
  };
  const missing = codeOf(() => readdirSync(folder));
  if (missing !== undefined)
    throw new Error(`the folder can't be read (${missing}): build the SPA first or correct the path`);
  const index = codeOf(() => accessSync(join(folder, 'index.html'), constants.R_OK));
  if (index !== undefined)
    throw new Error(
      `the folder has no index.html that can be read (${index}): build the SPA first or correct the path`,
    );
  for (const name of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    const code = codeOf(() => accessSync(join(folder, name), constants.R_OK));
    // A link that leads nowhere is passed over when files are served, too.
    if (code !== undefined && code !== 'ENOENT')
      throw new Error(`the folder has a file that can't be read (${code}): correct its permissions`);
  }
}
