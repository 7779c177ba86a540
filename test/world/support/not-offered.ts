import type { ScenarioName } from '../scenarios/all.ts';
import type { ServerName } from './real-server.ts';

/**
 * What a server does not have: said in the table, and no test. That it really is not there is looked for in its metadata
 * by its own test file.
 */
export const notOffered: Record<ServerName, ScenarioName[]> = {
  keycloak: [],
  django: [
    'a token for each API, by exchange',
    'a token for each API, by scope',
    'a token of the application for guests',
    'step-up in another app of the same SSO session',
    'back-channel logout',
    'front-channel logout',
    'W45 logout with the ID token in a form',
    'a bearer token that is a JWT',
  ],
};
