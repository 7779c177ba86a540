import { randomBytes } from 'node:crypto';
import { expect, onTestFinished } from 'vitest';
import { stringify } from 'yaml';
import { checkConnections } from '../../src/check/connections.ts';
import { type Finding, formatFinding } from '../../src/check/finding.ts';
import { formatProblem, parseConfig } from '../../src/config/load.ts';
import { assertNoSecrets } from './canary.ts';
import type { ConfigData } from './config-data.ts';
import { type EvilProvider, type EvilProviderOptions, startEvilProvider } from './evil-provider.ts';

/** Of every configuration here. */
export const sessionKey = randomBytes(32).toString('base64url');
/** Of the frontend that `configOf` describes. */
export const redirectUri = 'https://app.example.com/bff/callback';

/** The smallest configuration for this provider. */
export const configOf = (provider: Pick<EvilProvider, 'issuer' | 'clientId' | 'clientSecret'>): ConfigData => ({
  publicUrl: 'https://app.example.com',
  authorizationServer: {
    issuer: provider.issuer,
    clientId: provider.clientId,
    clientSecret: provider.clientSecret,
    scopes: ['openid', 'profile'],
  },
  session: { keys: [sessionKey] },
});

/** The findings; none of them has a secret, and each that is not ok has a cure. */
export async function check(data: ConfigData, env: Record<string, string> = {}): Promise<Finding[]> {
  const parsed = parseConfig('check.yaml', stringify(data), env);
  if (!parsed.ok) throw new Error(parsed.problems.map(formatProblem).join('\n'));
  const findings = await checkConnections(parsed.config);
  for (const { status, cure, says } of findings) {
    expect(says).not.toBe('');
    expect([says, cure === undefined]).toEqual([says, status === 'ok']);
  }
  const { clientSecret } = data.authorizationServer;
  const secrets = [sessionKey, ...[clientSecret, data.session.redis?.password].filter((text) => text?.length > 7)];
  assertNoSecrets({ secrets, haystacks: [{ name: 'findings', text: findings.map(formatFinding).join('\n') }] });
  return findings;
}

export const linesOf = (findings: Finding[], ...statuses: Finding['status'][]) =>
  findings.filter(({ status }) => statuses.includes(status)).map(formatFinding);
export const faultsOf = (findings: Finding[]) => linesOf(findings, 'FAIL', 'warn');

export async function startEvil(options: EvilProviderOptions = {}): Promise<EvilProvider> {
  const provider = await startEvilProvider(options);
  onTestFinished(() => provider.stop());
  return provider;
}

export function stopAfterwards(...peers: { stop(): Promise<void> }[]): void {
  for (const peer of peers) onTestFinished(() => peer.stop());
}
