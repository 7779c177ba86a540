#!/usr/bin/env node
'use strict';
// What `npm start` and `npx cloakroom` run. npx takes whatever Node the machine has; an older one hands over to the
// bundled one.
const { existsSync } = require('node:fs');
const { enableCompileCache } = require('node:module');
const { spawn } = require('node:child_process');
const path = require('node:path');

const root = path.join(__dirname, '..');
const cli = path.join(root, 'src', 'cli.ts');
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);

if (major > 22 || (major === 22 && minor >= 19)) {
  // Half of the time to start is compiling. Our own folder, not the shared temporary one: whoever can write there could
  // put other code in. This file is JavaScript, so that what takes the types out of TypeScript need not be loaded at all.
  enableCompileCache(path.join(root, 'node_modules', '.cache', 'cloakroom'));
  void import(require('node:url').pathToFileURL(cli).href);
} else {
  const bundled = path.join(root, 'node_modules', `node-${process.platform}-${process.arch}`, 'bin', 'node');
  if (!existsSync(bundled)) {
    console.error(
      `cloakroom: needs Node >= 22.19, this is ${process.version}: run "npm ci" in ${root}, or install a newer Node`,
    );
    process.exit(2);
  }
  const child = spawn(bundled, [__filename, ...process.argv.slice(2)], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => process.exit(signal === null ? code : 1));
}
