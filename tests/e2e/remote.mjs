// mcp-remote, as a client that speaks stdio alone starts it; only the browser that it would open is ours.
//
//   node remote.mjs URL

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { walk } from './walk.mjs';

const url = process.argv[2];
const folder = mkdtempSync(join(tmpdir(), 'mcp-remote-'));
const port = await new Promise((done) => {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const found = server.address().port;
    server.close(() => done(found));
  });
});
// Without a PATH nothing is found that could open a window.
const env = { HOME: folder, MCP_REMOTE_CONFIG_DIR: folder, PATH: folder };
const child = spawn(process.execPath, ['node_modules/mcp-remote/dist/proxy.js', url, String(port), '--host', '127.0.0.1', '--allow-http'], { env });
let said = '';
let walked;
child.stderr.on('data', (piece) => {
  said += piece;
  const found = /(https?:\/\/\S*[?&]response_type=code\S*)/.exec(said);
  if (found && !walked) {
    const redirect = new URL(found[1]).searchParams.get('redirect_uri');
    walked = walk(found[1], redirect).then((landed) => fetch(landed)).catch((error) => (said += error));
  }
});
const waiting = new Map();
createInterface({ input: child.stdout }).on('line', (line) => {
  const message = JSON.parse(line);
  waiting.get(message.id)?.(message);
});
let id = 0;
const ask = (method, params) =>
  new Promise((done, fail) => {
    id += 1;
    waiting.set(id, done);
    setTimeout(() => fail(new Error(`${method} was not answered: ${said.slice(-1500)}`)), 60_000).unref();
    child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`);
  });
try {
  const began = await ask('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'e2e', version: '1' } });
  child.stdin.write(`${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/initialized' })}\n`);
  const tools = (await ask('tools/list', {})).result.tools.map((tool) => tool.name);
  const answer = await ask('tools/call', { name: 'echo', arguments: { message: 'hé, world' } });
  assert.equal(answer.result.content[0].text, 'hé, world');
  assert.ok(walked, 'nobody had to log in');
  console.log(JSON.stringify({ tools, version: began.result.protocolVersion }));
} finally {
  child.kill();
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);
