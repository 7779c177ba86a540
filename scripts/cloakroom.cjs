#!/usr/bin/env node
'use strict';
// What `npx cloakroom` runs. npx takes whatever Node the machine has; an older one hands over to the bundled one.
const { existsSync } = require('node:fs');
const { spawn } = require('node:child_process');
const path = require('node:path');

const root = path.join(__dirname, '..');
const cli = path.join(root, 'src', 'cli.ts');
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);

if (major > 22 || (major === 22 && minor >= 19)) {
  void import(require('node:url').pathToFileURL(cli).href);
} else {
  const bundled = path.join(root, 'node_modules', `node-${process.platform}-${process.arch}`, 'bin', 'node');
  if (!existsSync(bundled)) {
    console.error(
      `cloakroom: needs Node >= 22.19, this is ${process.version}: run "npm ci" in ${root}, or install a newer Node`,
    );
    process.exit(2);
  }
  const child = spawn(bundled, [cli, ...process.argv.slice(2)], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  child.on('exit', (code, signal) => process.exit(signal === null ? code : 1));
}
