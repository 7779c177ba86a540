import { createFailures } from '../bearer/failures.ts';
import { createBearerPeer } from '../bearer/issuer.ts';
import type { BearerIssuer } from '../config/config.ts';
import { sortFault } from '../issuer/faults.ts';
import { readCertificates } from '../outbound/pem.ts';
import { checkKeys, type IssuerCheck, silentLog } from './authorization-server.ts';
import { createClockedCaller } from './clocked-caller.ts';
import { checkReach } from './reach.ts';
import { tellIssuerFault } from './told-fault.ts';

/** Reads its keys, and asks it about a token that was made up: an answer proves the client that may introspect. */
export async function checkBearerIssuer(issuer: BearerIssuer, check: IssuerCheck): Promise<void> {
  const { key, proxies, timeout, report } = check;
  const { caFile, metadataUrl, jwksUri, introspection } = issuer;
  const ca = caFile === undefined ? undefined : readCertificates(`${key}.caFile`, caFile);
  const target = metadataUrl ?? (introspection === undefined ? jwksUri : introspection.endpoint) ?? issuer.issuer;
  if (!(await checkReach({ key, target, ca, proxies, timeout, report }))) return;
  const caller = createClockedCaller(timeout, { caFile, proxies });
  const options = { caller, nowMs: Date.now, log: silentLog };
  const peer = createBearerPeer({ ...issuer, timeout }, createFailures(Date.now), options);
  try {
    await checkKeys(peer.keys, check);
    if (peer.introspect !== undefined) {
      await peer.introspect('a-token-that-was-made-up', 'check').then(
        () => report({ status: 'ok', key: `${key}.introspection`, says: 'it tells the client about tokens' }),
        (error: unknown) => {
          const finding = tellIssuerFault(key, 'it does not tell the client about tokens', sortFault(error));
          report({ ...finding, key: `${key}.introspection` });
        },
      );
    }
  } finally {
    await peer.close();
  }
}
