import type { Purpose } from './exchange.ts';
import type { CrossSiteKind, CrossSiteOptions, HeaderOverrides } from './request-options.ts';

export interface ForeignRequest {
  purpose: Purpose;
  method: string;
  headers: HeaderOverrides;
}

/** What a request from a foreign page looks like. */
export function foreignRequest(kind: CrossSiteKind, { from, method, headers = {} }: CrossSiteOptions): ForeignRequest {
  const purpose = (mode: Purpose['mode'], destination: string, topLevel = false): Purpose => ({
    mode,
    destination,
    topLevel,
    initiator: from,
    credentials: kind !== 'preflight',
  });
  switch (kind) {
    case 'link':
      return { purpose: purpose('navigate', 'document', true), method: method ?? 'GET', headers };
    case 'form':
      return { purpose: purpose('navigate', 'document', true), method: method ?? 'POST', headers };
    case 'iframe':
      return { purpose: purpose('navigate', 'iframe'), method: method ?? 'GET', headers };
    case 'prefetch':
      return {
        purpose: purpose('no-cors', 'empty'),
        method: 'GET',
        headers: { 'sec-purpose': 'prefetch', ...headers },
      };
    case 'image':
    case 'script':
      return { purpose: purpose('no-cors', kind), method: 'GET', headers };
    case 'fetch':
      return { purpose: purpose('cors', 'empty'), method: method ?? 'GET', headers };
    case 'preflight': {
      const asked = {
        'access-control-request-method': method ?? 'POST',
        'access-control-request-headers': Object.keys(headers).join(),
      };
      return { purpose: purpose('cors', 'empty'), method: 'OPTIONS', headers: asked };
    }
  }
}
