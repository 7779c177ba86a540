#!/usr/bin/env node
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';

const usage = `cloakroom: a backend for frontend that keeps tokens out of browsers

  cloakroom start  --config FILE   run it
  cloakroom check  --config FILE   validate the configuration and its files without starting
                   --connect       and ask all that it names: authorization servers, Redis, upstreams; exits with 1 when
                                   something would not work; --json for programs
  cloakroom keygen                 print a new server key for session.keys
  cloakroom explain METHOD PATH --config FILE [--as CLAIMS.json] [--host HOST]
                                   say what would become of a call to an API, and why; exits with 0 when it is
                                   allowed, 1 when it is refused, 2 when the question can’t be answered
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  strict: false,
  options: {
    config: { type: 'string', short: 'c' },
    as: { type: 'string' },
    host: { type: 'string' },
    connect: { type: 'boolean' },
    json: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  },
});
// `npm start -- --config FILE` has no command: start is meant.
const [command = values.config === undefined ? 'help' : 'start'] = positionals;
const file = typeof values.config === 'string' ? values.config : '';

switch (values.help === true ? 'help' : command) {
  case 'start': {
    if (file === '') fail('name the configuration: cloakroom start --config FILE');
    const { startServer } = await import('./server.ts');
    await startServer(file);
    break;
  }
  case 'check': {
    if (file === '') fail('name the configuration: cloakroom check --config FILE');
    const { formatProblem, inOrder, loadConfig } = await import('./config/load.ts');
    const loaded = loadConfig(file);
    if (!loaded.ok) {
      for (const problem of loaded.problems) console.error(formatProblem(problem));
      process.exitCode = 1;
      break;
    }
    for (const warning of loaded.warnings) console.error(`warning: ${warning}`);
    const { checkFiles } = await import('./check/files.ts');
    const { problems, warnings } = await checkFiles(loaded.config);
    for (const warning of warnings) console.error(`warning: ${warning}`);
    const found = problems.map(({ path, message }) => loaded.problemAt(path, message));
    for (const problem of inOrder(found)) console.error(formatProblem(problem));
    if (problems.length > 0) {
      process.exitCode = 1;
      break;
    }
    if (values.json !== true) {
      const { frontends } = loaded.config;
      const apis = frontends.reduce((sum, { apis }) => sum + apis.length, 0);
      console.log(
        `${file}: valid (${frontends.length} frontend${frontends.length === 1 ? '' : 's'}, ${apis} API${apis === 1 ? '' : 's'})`,
      );
    }
    if (values.connect !== true) break;
    const { checkConnections } = await import('./check/connections.ts');
    const { formatFinding } = await import('./check/finding.ts');
    const findings = await checkConnections(loaded.config);
    console.log(values.json === true ? JSON.stringify(findings, null, 2) : findings.map(formatFinding).join('\n'));
    // At once: a peer that never answers holds connections, and look-ups of names can't be given up.
    process.exit(findings.some(({ status }) => status === 'FAIL') ? 1 : 0);
    break;
  }
  case 'keygen':
    console.log(randomBytes(32).toString('base64url'));
    break;
  case 'explain': {
    const [, method, target] = positionals;
    if (file === '' || method === undefined || target === undefined)
      fail('name the call: cloakroom explain GET /api/orders/7 --config FILE');
    const { formatProblem, loadConfig } = await import('./config/load.ts');
    const loaded = loadConfig(file);
    if (!loaded.ok) fail(loaded.problems.map(formatProblem).join('\n'));
    const { explainCall, readClaims, UnclearQuestionError } = await import('./explain/explain.ts');
    const { as, host } = values;
    if (as === true) fail('name the claims file: --as CLAIMS.json');
    if (host === true) fail('name the host: --host HOST');
    try {
      const { isAllowed, text } = explainCall(loaded.config, {
        method,
        target,
        ...(host === undefined ? {} : { host: String(host) }),
        ...(as === undefined ? {} : { claims: readClaims(String(as)) }),
      });
      console.log(text);
      process.exitCode = isAllowed ? 0 : 1;
    } catch (error) {
      if (!(error instanceof UnclearQuestionError)) throw error;
      fail(error.message);
    }
    break;
  }
  case 'help':
    console.log(usage);
    break;
  default:
    fail(`there is no command ${command}\n\n${usage}`);
}

function fail(message: string): never {
  console.error(`cloakroom: ${message}`);
  process.exit(2);
}
