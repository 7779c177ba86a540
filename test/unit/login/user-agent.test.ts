import { describe, expect, it } from 'vitest';
import { describeDevice } from '../../../src/login/user-agent.ts';

const apple = 'AppleWebKit/605.1.15 (KHTML, like Gecko)';
const blink = 'AppleWebKit/537.36 (KHTML, like Gecko)';

describe('describeDevice', () => {
  it.each([
    ['Firefox on Linux', 'Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0'],
    ['Chrome on Windows', `Mozilla/5.0 (Windows NT 10.0; Win64; x64) ${blink} Chrome/131.0.0.0 Safari/537.36`],
    ['Edge on Windows', `Mozilla/5.0 (Windows NT 10.0) ${blink} Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0`],
    ['Opera on macOS', `Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) ${blink} Chrome/130.0 Safari/537.36 OPR/115.0`],
    ['Safari on macOS', `Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) ${apple} Version/18.1 Safari/605.1.15`],
    [
      'Safari on iOS',
      `Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) ${apple} Version/18.1 Mobile Safari/604.1`,
    ],
    [
      'Chrome on iOS',
      `Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) ${apple} CriOS/131.0 Mobile Safari/604.1`,
    ],
    ['Firefox on iOS', `Mozilla/5.0 (iPad; CPU OS 18_1 like Mac OS X) ${apple} FxiOS/133.0 Mobile Safari/605.1.15`],
    ['Chrome on Android', `Mozilla/5.0 (Linux; Android 15; Pixel 9) ${blink} Chrome/131.0.0.0 Mobile Safari/537.36`],
    ['Chrome on ChromeOS', `Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) ${blink} Chrome/131.0.0.0 Safari/537.36`],
  ])('says "%s"', (device, userAgent) => {
    expect(describeDevice(userAgent)).toBe(device);
  });

  it.each([
    undefined,
    '',
    'curl/8.5.0',
    'node',
    '<script>alert(1)</script>',
    '\u0000\u202e',
    'constructor',
    '__proto__',
  ])('says "unknown" for %j', (userAgent) => {
    expect(describeDevice(userAgent)).toBe('unknown');
  });

  it('says what it knows when it knows half', () => {
    expect(describeDevice('Thing (Windows NT 10.0)')).toBe('a browser on Windows');
    expect(describeDevice('Firefox/133.0')).toBe('Firefox');
  });

  it('repeats nothing of what the browser sent', () => {
    expect(describeDevice('Firefox/999.123-secret (Linux; build zz9marker)')).toBe('Firefox on Linux');
  });
});
