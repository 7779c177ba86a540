/** Browser and system out of a User-Agent, coarsely: enough to recognize one's own, too little to track anybody. */
export function describeDevice(userAgent: string | undefined): string {
  const browser = first(userAgent, {
    Edge: /\bEdg/,
    Opera: /\bOP[RT]\//,
    Firefox: /\b(Firefox|FxiOS)\//,
    Chrome: /\b(Chrom(e|ium)|CriOS)\//,
    Safari: /\bSafari\//,
  });
  const system = first(userAgent, {
    Android: /Android/,
    iOS: /iPhone|iPad|iPod/,
    Windows: /Windows/,
    macOS: /Mac OS X/,
    ChromeOS: /CrOS/,
    Linux: /Linux/,
  });
  return browser === undefined && system === undefined
    ? 'unknown'
    : [browser ?? 'a browser', system].filter(Boolean).join(' on ');
}

function first(text = '', candidates: Record<string, RegExp>): string | undefined {
  return Object.keys(candidates).find((name) => candidates[name]?.test(text));
}
