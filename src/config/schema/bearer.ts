import { z } from 'zod';
import { duration, metadataUrl, secret, signingAlgorithm, url } from './values.ts';

const introspection = z.strictObject({
  endpoint: url(
    'The introspection endpoint; from the issuer’s metadata when absent.',
    'https://id.example.com/introspect',
  ).optional(),
  clientId: z.string().min(1).meta({ description: 'The client that may introspect.' }),
  clientSecret: secret('Its secret, sent as HTTP Basic.'),
  for: z.enum(['opaque', 'all']).prefault('opaque').meta({
    description:
      'Ask about tokens that are no JWT, or about JWTs too, so that a revoked one is refused before its end. A JWT must pass its own checks first.',
  }),
  cache: duration(
    'How long an answer stands, at most until the token expires: a token that was revoked is accepted for this long.',
    0,
    10 * 60_000,
  ).prefault('30s'),
});

/** An issuer whose access tokens callers may bring themselves. */
export const bearerIssuer = z.strictObject({
  issuer: url(
    'The `iss` of its tokens, to the letter. Its metadata is read from there, unless `jwksUri` or `introspection.endpoint` says all that is needed.',
    'https://id.example.com',
  ),
  metadataUrl: metadataUrl.optional(),
  audiences: z
    .array(z.string().min(1))
    .min(1, 'names no audience: list what the tokens of these APIs have in aud')
    .meta({
      description:
        'The `aud` of a token must have one of these; and at an API with a `resource` or `audience`, that one.',
      examples: [['https://api.example.com']],
    }),
  algorithms: z
    .array(signingAlgorithm)
    .min(1)
    .prefault(['RS256', 'PS256', 'ES256', 'EdDSA', 'Ed25519'])
    .meta({ description: 'Signature algorithms accepted. Symmetric ones and `none` never are.' }),
  types: z
    .array(z.enum(['at+jwt', 'JWT']))
    .min(1)
    .prefault(['at+jwt'])
    .meta({
      description:
        'The `typ` that a JWT may have (RFC 9068 §2.1). `JWT`, which includes none at all, is for servers that do not tell access tokens from ID tokens.',
    }),
  clockTolerance: duration('How far the issuer’s clock may differ.', 0, 60_000).prefault('10s'),
  timeout: duration('How long one call to the issuer may take.').prefault('5s'),
  caFile: z
    .string()
    .optional()
    .meta({ description: 'PEM file with the CA of the issuer; the system’s CAs when absent.' }),
  jwksUri: url(
    'Where its keys are; from its metadata when absent.',
    'https://id.example.com/.well-known/jwks.json',
  ).optional(),
  introspection: introspection.optional().meta({
    description:
      'Ask the issuer about tokens (RFC 7662). Only one issuer can have it. With an `endpoint` and no `jwksUri` there are no keys: its JWTs are refused, or with `for: all` judged by the answer alone.',
  }),
});

export type BearerIssuerConfig = z.output<typeof bearerIssuer>;
