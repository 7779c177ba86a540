import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { type Browser, type BrowserContext, chromium, type Page, type Response } from 'playwright-core';
import { expect } from 'vitest';
import { assertNoSecrets } from '../../support/canary.ts';
import type { Demo } from '../../support/demo.ts';

/** Starts the Chromium of CHROMIUM_PATH or of the PATH, without a window and without calls home. */
export function launchChromium(): Promise<Browser> {
  return chromium.launch({
    executablePath: process.env.CHROMIUM_PATH || findOnPath('chromium'),
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
}

function findOnPath(program: string): string {
  const found = (process.env.PATH ?? '').split(delimiter).find((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  if (found === undefined)
    throw new Error(`no ${program} on the PATH: run it with "npm run test:e2e", which installs it`);
  return join(found, program);
}

/** One person with a browser profile of their own, and all that this browser got to see. */
export interface Visitor {
  context: BrowserContext;
  /** Opens another tab. Its complaints are collected too. */
  openTab(): Promise<Page>;
  /**
   * A load that is meant to fail: Chromium writes a console error for each, and only these are accepted. A WebSocket's
   * has no path.
   */
  expectFailedLoad(status: number, path: string): void;
  /** A page of ours that carries the ID token on purpose, where no script can read it. */
  expectIdTokenAt(path: string): void;
  /** The complaints so far about loads that may or may not have failed so: they were overtaken. */
  forgiveFailedLoads(status: number): void;
  /**
   * What must hold after every story: no token in any answer of Cloakroom, nothing that its pages' scripts could read
   * it from, no content-policy violation, and no console error but the expected ones.
   */
  leave(): Promise<void>;
}

interface Complaint {
  status: number | undefined;
  path: string;
  text: string;
}

export async function createVisitor(browser: Browser, demo: Demo): Promise<Visitor> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  const complaints: Complaint[] = [];
  const expected: { status: number; path: string }[] = [];
  const answers: Promise<Answer>[] = [];
  const carriers: string[] = [];

  await context.exposeFunction('reportViolation', (text: string) => {
    complaints.push({ status: undefined, path: '', text: `content policy: ${text}` });
  });
  await context.addInitScript({ content: REPORT_VIOLATIONS });
  context.on('response', (response) => {
    if (new URL(response.url()).origin === demo.origin) answers.push(readAnswer(response));
  });
  context.on('console', (message) => {
    if (message.type() !== 'error' && message.type() !== 'warning') return;
    const { url } = message.location();
    const text = message.text();
    const [, status] = /(?:the server responded with a status of|Unexpected response code:) (\d{3})/.exec(text) ?? [];
    const isRefusedHandshake = /WebSocket connection .* failed: HTTP Authentication failed/.test(text);
    complaints.push({
      status: isRefusedHandshake ? 401 : status === undefined ? undefined : Number(status),
      path: URL.canParse(url) ? new URL(url).pathname : '',
      text,
    });
  });
  context.on('weberror', (error) => complaints.push({ status: undefined, path: '', text: String(error.error()) }));

  return {
    context,
    openTab: () => context.newPage(),
    expectFailedLoad: (status, path) => expected.push({ status, path }),
    expectIdTokenAt: (path) => carriers.push(path),
    forgiveFailedLoads(status) {
      const kept = complaints.filter((complaint) => complaint.status !== status);
      complaints.splice(0, complaints.length, ...kept);
    },
    async leave() {
      const pages = context.pages().filter((page) => page.url().startsWith(demo.origin));
      const readable = await Promise.all(
        pages.map(async (page) => ({
          path: 'what scripts read',
          name: `page ${page.url()}`,
          text: await page.evaluate<string>(READ_ALL),
        })),
      );
      // A call that is still under way ends here, or its answer would come to a browser that is gone.
      await Promise.all(context.pages().map((page) => page.goto('about:blank')));
      const haystacks = [...(await Promise.all(answers)), ...readable];
      await context.close();
      // Nothing can be found where nothing was read or known.
      expect(demo.tokens.length, 'known tokens').toBeGreaterThan(0);
      expect(haystacks.some(({ text }) => text.includes('"authenticated":true'))).toBe(true);
      const isCarrier = ({ path }: Answer) => carriers.includes(path);
      assertNoSecrets({ secrets: demo.tokens, haystacks: haystacks.filter((haystack) => !isCarrier(haystack)) });
      const others = demo.tokens.filter((token) => !demo.idTokens.includes(token));
      assertNoSecrets({ secrets: others, haystacks: haystacks.filter(isCarrier) });
      expect(complaints.map(({ status, path, text }) => (status === undefined ? text : { status, path }))).toEqual(
        expected,
      );
    },
  };
}

interface Answer {
  path: string;
  name: string;
  text: string;
}

async function readAnswer(response: Response): Promise<Answer> {
  const path = new URL(response.url()).pathname;
  const name = `answer of ${response.request().method()} ${path}`;
  const headers = JSON.stringify(await response.headersArray());
  // A redirect has no body that anybody could read, nor has an answer whose tab has gone on to another page.
  const body = await response.text().catch(() => '');
  return { path, name, text: `${response.url()}\n${headers}\n${body}` };
}

// Scripts for the page, as text: the tests' own TypeScript knows no DOM, and should not.

const REPORT_VIOLATIONS = `document.addEventListener('securitypolicyviolation', ({ violatedDirective, blockedURI }) =>
  reportViolation(violatedDirective + ' ' + blockedURI))`;

/** All that a script of the page, also an injected one, could get at without asking the server. */
const READ_ALL = `[
  document.documentElement.outerHTML,
  document.cookie,
  JSON.stringify({ ...localStorage }),
  JSON.stringify({ ...sessionStorage }),
  JSON.stringify(history.state),
  location.href,
  document.referrer,
].join('\\n')`;
