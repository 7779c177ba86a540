import { inspect } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { formatProblem, parseConfig } from '../../src/config/load.ts';
import { assertNoSecrets } from '../support/canary.ts';
import { startCloakroom, writeConfig } from '../support/process.ts';
import { startRedis } from '../support/redis.ts';
import { type ConfigData, startWorld } from '../support/world.ts';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

describe('L6 what the configuration prints', () => {
  const secrets = {
    clientSecret: 'canary-client-secret-4711',
    redisPassword: 'canary-redis-password-4711',
    urlPassword: 'canary-url-password-4711',
    key: 'Y2FuYXJ5IGtleSA0NzExIP_-_fz7-vn49_b19PPy8fDv',
  };
  const configuration = (change: (data: ConfigData) => void = () => undefined): string => {
    const data: ConfigData = {
      publicUrl: 'https://app.example.com',
      authorizationServer: { issuer: 'https://id.example.com', clientId: 'shop', clientSecret: secrets.clientSecret },
      session: {
        redis: { url: `redis://user:${secrets.urlPassword}@redis:6379` },
        keys: [secrets.key],
      },
      apis: { orders: { path: '/api/orders', upstream: 'http://orders:8080' } },
    };
    change(data);
    return stringify(data);
  };
  const all = Object.values(secrets);

  it('L6 shows no secret of a parsed configuration, in any way of printing it', () => {
    const usingKey = (data: ConfigData) => {
      data.session.redis = { url: 'redis://redis:6379', password: secrets.redisPassword };
    };
    for (const change of [undefined, usingKey]) {
      const parsed = parseConfig('x.yaml', configuration(change), {});
      if (!parsed.ok) throw new Error(parsed.problems.map(formatProblem).join('\n'));
      const printed = [
        inspect(parsed.config, { depth: 20, showHidden: true }),
        JSON.stringify(parsed.config),
        String(parsed.config.frontends[0]?.authorizationServer.clientSecret),
        `${parsed.config.session.keys.map(String)}`,
        JSON.stringify(parsed.warnings),
      ];
      assertNoSecrets({ secrets: all, haystacks: [{ name: 'printed configuration', text: printed.join('\n') }] });
      expect(parsed.config.frontends[0]?.authorizationServer.clientSecret?.reveal()).toBe(secrets.clientSecret);
    }
  });

  it('L6 prints problems without the values that are wrong', async () => {
    const breakages: ((data: ConfigData) => void)[] = [
      (data) => Object.assign(data, { nonsense: secrets.clientSecret }),
      (data) => Object.assign(data.session, { keys: secrets.key }),
      (data) => Object.assign(data.session, { keys: [secrets.clientSecret] }),
      (data) => Object.assign(data.session.redis, { url: `http://user:${secrets.urlPassword}@redis` }),
      (data) => Object.assign(data.session.redis, { password: [secrets.redisPassword] }),
      (data) => Object.assign(data.authorizationServer, { issuer: `https://u:${secrets.urlPassword}@id.example.com` }),
      (data) => Object.assign(data.authorizationServer, { clientSecret: { value: secrets.clientSecret } }),
      (data) => Object.assign(data.authorizationServer, { clientAuthentication: secrets.clientSecret }),
      (data) => Object.assign(data.session, { idleTimeout: secrets.clientSecret }),
    ];
    const texts = breakages.map(configuration);
    texts.push(
      `${configuration()}\n  bad: [${secrets.clientSecret}`,
      configuration().replace('keys:', `keys: *${secrets.clientSecret.replaceAll('-', '')}\nx:`),
    );
    for (const text of texts) {
      const parsed = parseConfig('x.yaml', text, {});
      expect(parsed.ok, text).toBe(false);
      const printed = parsed.ok ? '' : parsed.problems.map(formatProblem).join('\n');
      assertNoSecrets({ secrets: all, haystacks: [{ name: text, text: printed }] });
    }
  });

  it('L6 cloakroom check prints no secret', async () => {
    for (const text of [
      configuration(),
      configuration((data) => Object.assign(data, { listen: secrets.clientSecret })),
    ]) {
      const { file, remove } = await writeConfig(text);
      cleanups.push(remove);
      const started = startCloakroom('check', '--config', file);
      await started.ended;
      const printed = `${started.stdout()}${started.stderr()}`;
      expect(printed).toContain(file);
      assertNoSecrets({ secrets: all, haystacks: [{ name: 'cloakroom check', text: printed }] });
    }
  });

  it('L6 connects with the password out of the URL of Redis, and shows it nowhere', async () => {
    const password = 'canary:p@ss/word-4711';
    const redis = await startRedis({ args: ['--requirepass', password] });
    cleanups.push(() => redis.stop());
    const world = await startWorld({ redisUrl: redis.url.replace('//', `//default:${encodeURIComponent(password)}@`) });
    const browser = await world.loggedIn();
    expect((await browser.fetch('/api/orders/1')).status).toBe(200);
    assertNoSecrets({ secrets: [password], haystacks: [{ name: 'log', text: world.log.text() }] });
    await world.stop();
  });

  it('L6 says WRONGPASS, not the password, when Redis refuses it', async () => {
    const redis = await startRedis({ args: ['--requirepass', 'right-password-4711'] });
    cleanups.push(() => redis.stop());
    const world = await startWorld({
      redisUrl: redis.url.replace('//', '//default:right-password-4711@'),
      config: (data) => Object.assign(data.session.redis, { url: redis.url.replace('//', '//:wrong-password-4711@') }),
    });
    expect((await world.app.ops.inject('/readyz')).statusCode).toBe(503);
    expect(world.log.warnings()).toContainEqual(expect.objectContaining({ reason: 'WRONGPASS' }));
    assertNoSecrets({ secrets: ['wrong-password-4711'], haystacks: [{ name: 'log', text: world.log.text() }] });
    await world.stop();
  });
});
