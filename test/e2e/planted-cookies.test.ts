import { isUtf8 } from 'node:buffer';
import fc from 'fast-check';
import type { Browser, BrowserContext, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { cookieValues, parseCookies } from '../../src/http/cookies.ts';
import { createCertificates } from '../support/certificates.ts';
import { type RawSite, startRawSite } from './support/raw-site.ts';
import { launchChromium } from './support/visitor.ts';

const session = '__Host-cloakroom';
const login = '__Host-cloakroom.login.AAAAAAAAAAAAAAAA';
const restarted = '__Host-cloakroom.restarted';
const ours = [session, login, restarted];
const forSiblings = '; Domain=shop.localhost; Path=/; Secure';
const genuine = '; Path=/; Secure; HttpOnly; SameSite=Strict';

// What a sibling may write before, behind and for a name of ours. The bytes of a header line: no CR, LF and NUL, with
// which there would be no answer.
const bytes = fc.integer({ min: 1, max: 255 }).filter((code) => code !== 10 && code !== 13);
const character = bytes.map((code) => String.fromCharCode(code));
const blank = fc.constantFrom(
  ...'\t\v\f \xa0\x85\x1c\x1f\x7f',
  '\xc2\xa0',
  '\xe3\x80\x80',
  '\xef\xbb\xbf',
  '\xe2\x80\x8b',
);
const junk = fc.oneof(
  fc.constant(''),
  blank,
  character,
  fc.constantFrom('=', '"', ',', '%00', '==', '$', '; ', '__Host-'),
);
const someName = fc.oneof(
  fc.constantFrom(...ours),
  fc.constantFrom(...ours).map((name) => name.toLowerCase()),
  fc.constantFrom(...ours).map((name) => name.toUpperCase()),
  fc.constantFrom('__Host-', 'cloakroom', '__proto__', 'a', ''),
);
const line = fc
  .tuple(junk, junk, someName, junk, fc.constantFrom('=', ' = ', ''), junk, fc.constantFrom('planted', '', '"planted"'))
  .map((parts) => parts.join(''));
/** By script also what no header can have. */
const scriptLine = fc
  .tuple(fc.constantFrom('', '\0', '\r', '\n', '\u00a0', '\u3000', '\ufeff', '\u2028', '='), someName)
  .map(([before, name]) => `${before}${name}=planted`);

/** How Cloakroom read cookies once: whatever JavaScript trims was trimmed. */
const asOnce = (header: string) => header.split(';').map((pair) => pair.trim());

describe('cookies as Chromium stores and sends them', () => {
  let chromium: Browser;
  let site: RawSite;
  let context: BrowserContext;
  let tab: Page;
  let sibling: string;
  let app: string;
  beforeAll(async () => {
    const [browser, { good }] = await Promise.all([launchChromium(), createCertificates()]);
    chromium = browser;
    site = await startRawSite(good);
    sibling = `https://evil.shop.localhost:${site.port}/`;
    app = `https://app.shop.localhost:${site.port}/`;
  });
  afterAll(async () => {
    await chromium.close();
    await site.stop();
  });
  beforeEach(async () => {
    context = await chromium.newContext({ ignoreHTTPSErrors: true });
    tab = await context.newPage();
  });
  afterEach(() => context.close());

  const visit = async (url: string, setCookies: string[] = []) => {
    site.setCookies = setCookies;
    await tab.goto(url);
  };
  /** The header that the app gets, and what the browser would say is in it. */
  const read = async () => {
    await visit(app);
    return { header: site.lastCookieHeader(new URL(app).host), jar: await context.cookies(app) };
  };

  it('W2 has no cookie of our names from a sibling, whatever it plants, and always finds the genuine one', async () => {
    let arrived = 0;
    let fooled = 0;
    const known = ['\xa0', '\xc2\xa0', '\xe3\x80\x80', '='].map((before) => `${before}${session}=planted`);
    await fc.assert(
      fc.asyncProperty(
        fc.array(line, { minLength: 1, maxLength: 25 }),
        fc.array(scriptLine, { maxLength: 5 }),
        fc.subarray(ours),
        fc.boolean(),
        async (lines, scripted, own, isLast) => {
          await context.clearCookies();
          const set = own.map((name) => `${name}=genuine${genuine}`);
          if (!isLast) await visit(app, set);
          await visit(
            sibling,
            lines.map((each) => `${each}${forSiblings}`),
          );
          await tab.evaluate(
            (all) => {
              for (const each of all)
                (globalThis as unknown as { document: { cookie: string } }).document.cookie = each;
            },
            scripted.map((each) => `${each}${forSiblings}`),
          );
          if (isLast) await visit(app, set);

          const { header, jar } = await read();
          const all = parseCookies(header);
          for (const name of ours) {
            // Of this host alone: what came with `Domain` has a dot in front. (Names come without what is no UTF-8.)
            const stored = jar.filter((cookie) => cookie.name === name && cookie.domain === 'app.shop.localhost');
            expect(stored.map(({ value }) => value)).toEqual(own.includes(name) ? ['genuine'] : []);
            expect(cookieValues(header, name), header).toEqual(stored.map(({ value }) => value));
            expect(all[name], header).toBe(stored[0]?.value);
          }
          const prefix = `${session}.`;
          const found = Object.keys(all).filter((name) => name.startsWith(prefix));
          expect(new Set(found)).toEqual(new Set(own.filter((name) => name.startsWith(prefix))));
          if (header.includes('planted')) arrived++;
          if (asOnce(header).some((pair) => pair.startsWith(`${session}=`) && pair.includes('planted'))) fooled++;
        },
      ),
      {
        numRuns: 30,
        endOnFailure: true,
        examples: [
          [known, [], [], true],
          [known, [], ours, false],
        ],
      },
    );
    // The property is about something: siblings' cookies came along, and a reader that trims more took them for ours.
    expect(arrived).toBeGreaterThan(5);
    expect(fooled).toBeGreaterThan(0);
  });

  it('W2 reads what the host itself set as the browser has it', async () => {
    // The browser shows names without what is no UTF-8.
    const shownLine = line.filter((text) => isUtf8(Buffer.from(text, 'latin1')));
    const isAscii = (text: string) => /^[\x20-\x7e]*$/.test(text);
    let compared = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(shownLine, { minLength: 10, maxLength: 25 }), async (lines) => {
        await context.clearCookies();
        await visit(
          app,
          lines.map((each) => `${each}; Path=/; Secure`),
        );
        const { header, jar } = await read();
        const all = parseCookies(header);
        // A cookie without a name is sent as its value alone, and that may look like a pair: nobody can tell.
        const nameless = jar.filter(({ name }) => name === '').map(({ value }) => Object.keys(parseCookies(value))[0]);
        for (const { name, value } of jar.filter((each) => each.name !== '' && isAscii(each.name + each.value))) {
          if (nameless.includes(name)) continue;
          expect([cookieValues(header, name), all[name]], header).toEqual([[value], value]);
          compared++;
        }
        const stored = new Set(jar.map(({ name }) => name));
        for (const name of Object.keys(all).filter((each) => isAscii(each) && !nameless.includes(each)))
          expect(stored, header).toContain(name);
      }),
      { numRuns: 20, endOnFailure: true },
    );
    expect(compared).toBeGreaterThan(10);
  });
});
