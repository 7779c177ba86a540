'use strict';
// Runs after `npm ci`, on whatever Node the machine has, so: CommonJS and old syntax.
// Cloakroom needs Node >= 22.19 (docs/adr/0001-bundled-node.md). A machine with an older one uses the binary of the optional
// dependency node-linux-*, which npm scripts find first through node_modules/.bin.
// npm < 11.10 deletes that link while it skips the other platform's package; a new enough system Node must
// not be shadowed by it. This script settles both.
const { existsSync, mkdirSync, rmSync, symlinkSync } = require('node:fs');
const { spawnSync } = require('node:child_process');
const path = require('node:path');

const root = path.join(__dirname, '..');
const link = path.join(root, 'node_modules', '.bin', 'node');
const bundled = path.join(root, 'node_modules', `node-${process.platform}-${process.arch}`, 'bin', 'node');

const isSupported = (version) => {
  const [major, minor] = version.replace(/^v/, '').split('.').map(Number);
  return major > 22 || (major === 22 && minor >= 19);
};

const npmNode = process.env.npm_node_execpath;
const systemVersion = npmNode
  ? spawnSync(npmNode, ['--version'], { encoding: 'utf8' }).stdout?.trim() || process.version
  : process.version;

if (isSupported(systemVersion)) {
  rmSync(link, { force: true });
} else if (existsSync(bundled)) {
  mkdirSync(path.dirname(link), { recursive: true });
  if (!existsSync(link)) {
    rmSync(link, { force: true });
    symlinkSync(path.relative(path.dirname(link), bundled), link);
  }
} else {
  console.warn(
    `cloakroom: this machine has Node ${systemVersion}, Cloakroom needs >= 22.19.0, and no bundled Node fits ` +
      `${process.platform}-${process.arch}. Install Node 22.19 or newer.`,
  );
}
