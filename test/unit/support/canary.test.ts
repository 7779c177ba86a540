import Fastify from 'fastify';
import { expect, test } from 'vitest';
import { assertNoSecrets } from '../../support/canary.ts';
import { createLogSink } from '../../support/log-sink.ts';

const secret = 'canary/+"value?~secret';
const jwt = 'eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg';

test.each([
  ['verbatim', `x${secret}`],
  ['percent-encoded', `?a=${encodeURIComponent(secret)}`],
  ['JSON-escaped', JSON.stringify({ secret })],
  ['JSON-escaped twice', JSON.stringify(JSON.stringify({ secret }))],
  ['hex', Buffer.from(secret).toString('hex')],
  ['base64', Buffer.from(`client:${secret}:after`).toString('base64')],
  ['base64url', Buffer.from(`a${secret}`).toString('base64url')],
])('finds a secret %s without naming it', (form, text) => {
  const search = () => assertNoSecrets({ secrets: [secret], haystacks: [{ name: 'the log', text }] });
  expect(search).toThrow(`(${form})`);
  expect(search).toThrow('the log at');
  expect(search).not.toThrow('canary/');
});

test('finds the parts of a JWT and passes clean text', () => {
  const part = jwt.split('.')[1] ?? '';
  expect(() => assertNoSecrets({ secrets: [jwt], haystacks: [{ name: 'log', text: part }] })).toThrow('JWT payload');
  assertNoSecrets({ secrets: [jwt, secret], haystacks: [{ name: 'log', text: 'nothing here' }] });
});

test('the log sink keeps parsed lines and levels', () => {
  const sink = createLogSink();
  const logger = Fastify({ logger: { level: 'trace', stream: sink.stream } }).log;
  logger.error({ code: 'X' }, 'broken');
  logger.info('fine');
  expect(sink.lines).toMatchObject([{ msg: 'broken', code: 'X' }, { msg: 'fine' }]);
  expect(sink.errors()).toHaveLength(1);
});
