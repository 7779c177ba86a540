import type { SuiteKeys } from './keys.ts';
import type { ConformanceModule, SuiteEndpoint } from './modules.ts';

/** The client as it is registered at the suite, for one run. */
export interface Registration {
  redirectUri: string;
  responseMode: 'query' | 'form_post';
  postLogoutRedirectUri: string;
  frontchannelLogoutUri: string;
  /** Posts a form to the registered `backchannel_logout_uri`, of the suite's content type. */
  postToBackChannel(form: URLSearchParams): Promise<{ status: number; cacheControl: string }>;
}

/** One run of a module. */
export interface Run {
  readonly module: ConformanceModule;
  readonly registration: Registration;
  /** What was asked for, in order. */
  readonly seen: SuiteEndpoint[];
  /** What a relying party must never do, and did. */
  readonly failures: string[];
  keys: SuiteKeys;
  readonly sid: string;
  jwksPath: string;
  code?: { value: string; nonce: string; challenge: string; scope: string };
  accessToken?: { value: string; scope: string };
  readonly idTokens: string[];
  /** Where the page with the front channel's frame goes afterwards. */
  returnUrl?: string;
}

/** What an endpoint answers: JSON, a page, or a place to go. */
export type Reply = { json: unknown; status?: number } | { jwt: string } | { html: string } | { location: string };

/** What breaks this makes the module fail. */
export function must(isSo: boolean, failure: string): asserts isSo {
  if (!isSo) throw new Error(failure);
}
