import type { AuthorizationServerConfig } from '../config/config.ts';
import type { Fault, Mistake } from '../issuer/faults.ts';
import { tellFault } from '../issuer/mistakes.ts';
import { causeOf } from './causes.ts';
import type { Finding } from './finding.ts';

/** What an issuer answered, or that it did not, as a finding about the key that is most likely wrong. */
export function tellIssuerFault(key: string, what: string, fault: Fault, config?: AuthorizationServerConfig): Finding {
  const { mistake, cure = generalCure(fault) } = tellFault(fault);
  const says = `${what}: ${sayFault(fault)}`;
  if (mistake === undefined) return { status: 'FAIL', key: `${key}.issuer`, says, cure };
  const isAsserted = mistake === 'client-credentials' && config !== undefined && makesAssertions(config);
  return {
    status: 'FAIL',
    key: `${key}.${keys[mistake]}`,
    says,
    cure: isAsserted ? `${cure}; some servers want another clientAssertionAudience` : cure,
  };
}

/** Where the cure is applied, if it is not at the server. */
const keys: Record<Mistake, string> = {
  'client-credentials': 'clientAuthentication',
  'client-not-allowed': 'clientId',
  'redirect-uri': 'clientId',
  scope: 'scopes',
  'sender-constrained': 'clientId',
  'id-token-encrypted': 'clientId',
  'id-token-algorithm': 'idTokenSigningAlgorithms',
  'issuer-differs': 'issuer',
  'metadata-missing': 'issuer',
  'userinfo-missing': 'userInfo',
  'userinfo-token': 'userInfo',
  'userinfo-encrypted': 'userInfo',
  'userinfo-algorithm': 'userInfo',
};

function makesAssertions({ clientAuthentication, privateKey }: AuthorizationServerConfig): boolean {
  return clientAuthentication?.endsWith('_jwt') ?? privateKey !== undefined;
}

function sayFault(fault: Fault): string {
  const { status, error, description } = fault.said ?? {};
  const parts = [
    ...(fault.kind === 'unavailable' || fault.kind === 'untrusted' ? [reasonIn(fault.reason)] : []),
    ...(status === undefined ? [] : [`status ${status}`]),
    ...(error === undefined ? [] : [error]),
    ...(description === undefined ? [] : [`“${description}”`]),
    ...(fault.kind === 'untrusted' && fault.expected !== undefined
      ? [sayDifference(fault.expected, fault.received)]
      : []),
  ];
  return [...new Set(parts)].join(', ') || fault.kind;
}

function sayDifference(expected: string, received = ''): string {
  const slash = received === `${expected}/` ? ' (a slash more)' : expected === `${received}/` ? ' (a slash less)' : '';
  return `expected ${expected}, got ${received}${slash}`;
}

function reasonIn(reason: string): string {
  const code = /^authorization server: (.+)$/.exec(reason)?.[1];
  return code === undefined ? reason : causeOf(code).says;
}

function generalCure(fault: Fault): string {
  if (fault.kind === 'rejected') return 'look into the log of the authorization server';
  if (fault.kind === 'misconfigured')
    return 'compare this client’s registration with the configuration: the log of the authorization server says more';
  if (fault.kind === 'untrusted')
    return 'look whether the right server answers there: a proxy’s page, or another product, does not say this';
  const code = /^authorization server: (.+)$/.exec(fault.reason)?.[1];
  return code === undefined ? 'try again later, and look into the log of the authorization server' : causeOf(code).cure;
}
