import { describe, expect, it } from 'vitest';
import type { Fault } from '../../../src/issuer/faults.ts';
import { tellFault } from '../../../src/issuer/mistakes.ts';

const nameOf = (error: string, description?: string, status = 400) => {
  const fault: Fault = {
    kind: 'misconfigured',
    code: 'other',
    said: { status, error, ...(description === undefined ? {} : { description }) },
  };
  return tellFault(fault).mistake;
};

describe('W41 what servers say of a registration', () => {
  it.each([
    ['invalid_client', 'Client not found'], // in the words of oidc-provider, Hydra, Auth0, Entra, Google and Spring
    ['invalid_client', 'Unknown client'],
    ['invalid_request', 'unknown client_id'],
    ['invalid_client', 'The OAuth client was not found.'],
    ['invalid_client', 'Client does not exist'],
    ['invalid_request', 'No such client'],
    ['unauthorized_client', 'Application with identifier was not found in the directory'],
    ['invalid_client', 'Client authentication failed: client is disabled'],
    ['disabled_client', 'The OAuth client was disabled.'],
    ['unauthorized_client', undefined],
  ])('W41 %s, %s: the client', (error, description) => {
    expect(nameOf(error, description, 401)).toBe('client-not-allowed');
  });

  it.each([
    ['invalid_client', undefined],
    ['invalid_client', 'Invalid client or Invalid client credentials'],
    ['invalid_client', 'Client authentication failed (e.g., unknown client, no client authentication included)'],
    ['invalid_client', 'Invalid client secret provided'],
    ['invalid_client', 'The key of the assertion is unknown'],
  ])('W41 %s, %s: its credentials', (error, description) => {
    expect(nameOf(error, description, 401)).toBe('client-credentials');
  });

  it.each([
    ['redirect_uri_mismatch', undefined],
    ['invalid_grant', 'Incorrect redirect_uri'],
    ['invalid_request', 'The redirect URI does not match the ones of the application'],
  ])('W41 %s, %s: the redirect URI', (error, description) => {
    expect(nameOf(error, description)).toBe('redirect-uri');
  });

  it('W41 nothing is guessed of what says nothing', () => {
    expect(nameOf('invalid_request')).toBeUndefined();
    expect(nameOf('invalid_grant', 'Code not found for this client')).toBeUndefined();
    expect(nameOf('access_denied', 'The user said no')).toBeUndefined();
  });
});
