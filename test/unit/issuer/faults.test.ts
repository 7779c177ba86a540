import * as oidc from 'openid-client';
import { describe, expect, it } from 'vitest';
import { CallFailedError } from '../../../src/issuer/call.ts';
import { KeysUnavailableError, sortFault, UntrustedAnswerError } from '../../../src/issuer/faults.ts';

const call = (code: string, wasSent: boolean) => new CallFailedError(code, wasSent, undefined);
/** What openid-client makes of an error that our caller throws. */
const wrapped = (cause: unknown) => new oidc.ClientError('something went wrong', { cause });
/** What openid-client makes of an answer with another status than 200 and no OAuth error in it. */
const answered = (status: number, headers: Record<string, string> = {}) => {
  const cause = new Response(null, { status, headers });
  return new oidc.ClientError('unexpected HTTP response status code', { cause });
};

describe('a fault', () => {
  it.each([true, false])('keeps whether the request was sent (%s), also through openid-client', (wasSent) => {
    const expected = { kind: 'unavailable', reason: 'authorization server: ECONNRESET', wasSent };
    expect(sortFault(call('ECONNRESET', wasSent))).toEqual(expected);
    expect(sortFault(wrapped(call('ECONNRESET', wasSent)))).toEqual(expected);
  });

  it.each([408, 425, 429, 500, 502, 503, 504, 599])('T117 of status %d is "later"', (status) => {
    const said = { status };
    expect(sortFault(answered(status))).toEqual({
      kind: 'unavailable',
      reason: `status ${status}`,
      wasSent: true,
      said,
    });
  });

  it.each([302, 400, 403, 404, 418])('T117 of status %d without an OAuth error is not to be trusted', (status) => {
    expect(sortFault(answered(status)).kind).toBe('untrusted');
  });

  it.each([
    ['7', 7],
    ['0.5', 0.5],
    ['1e9', 300],
    ['301', 300],
    ['0', undefined],
    ['-1', undefined],
    ['', undefined],
    ['Infinity', undefined],
    ['soon', undefined],
    ['Wed, 21 Oct 2099 07:28:00 GMT', undefined],
  ])('T117 with Retry-After %j waits %s s', (header, seconds) => {
    const fault = sortFault(answered(503, { 'retry-after': header }));
    expect('retryAfterSeconds' in fault ? fault.retryAfterSeconds : undefined).toBe(seconds);
  });

  it('of keys that can’t be had leaves everything open', () => {
    expect(sortFault(new KeysUnavailableError('the key set is not JSON'))).toMatchObject({
      kind: 'unavailable',
      wasSent: false,
    });
  });

  it('of our own checks is not to be trusted, and says which', () => {
    expect(sortFault(new UntrustedAnswerError('no ID token'))).toEqual({ kind: 'untrusted', reason: 'no ID token' });
  });

  it('T39 that nobody knows says its class and never its message', () => {
    for (const error of [
      new Error('secret-token'),
      wrapped(new Error('secret-token')),
      'secret-token',
      { message: 'secret-token' },
      null,
    ]) {
      expect(JSON.stringify(sortFault(error))).not.toContain('secret-token');
    }
  });
});
