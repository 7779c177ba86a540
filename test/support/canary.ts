import { createHash } from 'node:crypto';

export interface Haystack {
  name: string;
  text: string;
}

/** Shorter strings would be found by chance. */
const SHORTEST_SECRET = 8;

/**
 * Throws when any secret appears in any haystack: verbatim, base64, base64url (at each of the three alignments, so
 * also inside a longer encoded text such as `Basic`), hex, percent-encoded or JSON-escaped. Of a JWT the payload and
 * the signature count alone too. The message names haystack, position, form and a fingerprint, never the secret.
 */
export function assertNoSecrets({ secrets, haystacks }: { secrets: string[]; haystacks: Haystack[] }): void {
  const found: string[] = [];
  for (const secret of new Set(secrets)) {
    if (secret.length < SHORTEST_SECRET) throw new Error(`a canary needs ${SHORTEST_SECRET} characters or more`);
    for (const { form, text } of forms(secret)) {
      for (const haystack of haystacks) {
        const position = haystack.text.indexOf(text);
        if (position >= 0) found.push(`${haystack.name} at ${position}: secret ${fingerprint(secret)} (${form})`);
      }
    }
  }
  if (found.length > 0) throw new Error(`secrets leaked:\n  ${[...new Set(found)].join('\n  ')}`);
}

/** How `assertNoSecrets` names a secret: eight hex digits of its SHA-256. */
export function fingerprint(secret: string): string {
  return createHash('sha256').update(secret).digest('hex').slice(0, 8);
}

function forms(secret: string): { form: string; text: string }[] {
  const percent = encodeURIComponent(secret);
  const list = [
    { form: 'verbatim', text: secret },
    { form: 'percent-encoded', text: percent },
    { form: 'percent-encoded', text: percent.replaceAll(/%[0-9A-F]{2}/g, (octet) => octet.toLowerCase()) },
    { form: 'percent-encoded twice', text: encodeURIComponent(percent) },
    { form: 'JSON-escaped', text: JSON.stringify(secret).slice(1, -1) },
    { form: 'JSON-escaped twice', text: JSON.stringify(JSON.stringify(secret).slice(1, -1)).slice(1, -1) },
    { form: 'hex', text: Buffer.from(secret).toString('hex') },
    ...base64Forms(secret),
  ];
  const [, payload, signature, ...more] = secret.split('.');
  if (payload && signature && more.length === 0) {
    if (payload.length >= 16) list.push({ form: 'JWT payload', text: payload });
    if (signature.length >= 16) list.push({ form: 'JWT signature', text: signature });
  }
  return list;
}

/** The characters of the encoding that depend on the secret alone, whatever stands before or after it. */
function base64Forms(secret: string): { form: string; text: string }[] {
  return [0, 1, 2].flatMap((before) => {
    const bytes = Buffer.concat([Buffer.alloc(before), Buffer.from(secret)]);
    const firstWhole = Math.ceil((before * 8) / 6);
    const lastWhole = Math.floor((bytes.length * 8) / 6);
    return (['base64', 'base64url'] as const).map((form) => ({
      form,
      text: bytes.toString(form).slice(firstWhole, lastWhole),
    }));
  });
}
