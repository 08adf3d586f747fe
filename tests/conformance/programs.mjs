// Starting and ending programs: the fixture, the proxy, the suite. Everything listens on loopback on a free port, every
// wait has an end, and what was started here ends with us.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const START_MS = 30_000;
const STOP_MS = 15_000;
const SUITE_MS = 300_000;

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

/** Starts a program that does not outlive us. */
export function start(command, options) {
  const child = spawn(command[0], command.slice(1), options);
  running.add(child);
  child.on('close', () => running.delete(child));
  return child;
}

/** A file that lies beside this one. */
export const beside = (name) => fileURLToPath(new URL(name, import.meta.url));

/** The audience of every token, and the name by which the proxy is known to whoever issues them. */
export const AUDIENCE = 'urn:open-mcp-auth-proxy:conformance';

/** Where the proxy serves what. */
export const PATHS = { sse: '/sse', messages: '/messages/', streamable_http: '/mcp' };

export async function freePort() {
  const listener = createServer().listen(0, '127.0.0.1');
  await once(listener, 'listening');
  const { port } = listener.address();
  listener.close();
  await once(listener, 'close');
  return port;
}

class Program {
  /** Starts `command` and waits until its output matches `ready`. */
  static async start(name, command, ready) {
    const program = new Program();
    const child = start(command, { stdio: ['ignore', 'pipe', 'pipe'] });
    Object.assign(program, { name, child, output: '', ended: false });
    const collect = (part) => (program.output = (program.output + part).slice(-200_000));
    child.stdout.setEncoding('utf8').on('data', collect);
    child.stderr.setEncoding('utf8').on('data', collect);
    child.on('error', (err) => collect(`${err}\n`));
    program.closed = new Promise((resolve) => {
      child.on('close', () => {
        program.ended = true;
        resolve();
      });
    });
    await program.says(ready);
    return program;
  }

  /** Waits until the output matches, and gives the match. */
  async says(pattern) {
    const until = Date.now() + START_MS;
    for (;;) {
      const found = pattern.exec(this.output);
      if (found) return found;
      if (this.ended || Date.now() > until) {
        await this.stop();
        throw new Error(`${this.name} did not say ${pattern}:\n${this.output.slice(-3000)}`);
      }
      await Promise.race([new Promise((resolve) => setTimeout(resolve, 20)), this.closed]);
    }
  }

  async stop() {
    if (this.ended) return;
    this.child.kill('SIGTERM');
    const overdue = setTimeout(() => this.child.kill('SIGKILL'), STOP_MS);
    await this.closed;
    clearTimeout(overdue);
  }
}

export async function startFixture(...flags) {
  const fixture = await Program.start('fixture', [process.execPath, beside('fixture.mjs'), 'http', ...flags], /\{.*\}\n/);
  fixture.url = JSON.parse(/\{.*\}/.exec(fixture.output)[0]).url;
  /** How many requests it has had, and how many with a token. */
  fixture.seen = async () => (await fetch(new URL('/seen', fixture.url))).json();
  return fixture;
}

/** Everything that is built in. Gives the URL of its authorization server, too. */
export async function startLocal({ binary }) {
  const local = await Program.start('--local', [binary, '--local'], /authorization server +http:\S+[^]*Inspector/);
  const at = (name) => new RegExp(`${name} +(http:\\S+)`).exec(local.output)[1];
  return Object.assign(local, { url: at('MCP endpoint'), issuer: at('authorization server') });
}

/** The proxy with this configuration, listening on `port` of loopback. */
export async function startConfigured({ binary, folder, port, config }) {
  const file = join(folder, `proxy-${port}.yaml`);
  writeFileSync(file, JSON.stringify({ ...config, listen_port: port })); // JSON is YAML, too
  return Program.start('proxy', [binary, '--config', file], / listening /);
}

/** The proxy in front of `server`, an origin, or of the program that `command` starts, trusting `issuer` for tokens of
 * `audience`: all checks on, nothing waived. `more` goes into the configuration. */
export async function startProxy({ binary, folder, server, command, issuer, audience, more }) {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}/mcp`;
  const config = {
    proxy_base_url: `http://127.0.0.1:${port}`,
    ...(command ? { transport_mode: 'stdio', stdio: { user_command: command.join(' ') } } : { base_url: server }),
    timeout_seconds: 30,
    paths: PATHS,
    protected_resource_metadata: {
      resource_identifier: url,
      audience: audience ?? url,
      authorization_servers: [issuer],
    },
  };
  const proxy = await startConfigured({ binary, folder, port, config: { ...config, ...more } });
  proxy.url = url;
  return proxy;
}

/** Runs the official suite and gives what it printed, which `watch` sees as it comes. What it thinks of the result is read
 * from its files instead. */
export async function runSuite(args, env = {}, watch = () => {}) {
  const suite = beside('node_modules/@modelcontextprotocol/conformance/dist/index.js');
  const options = { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, ...env } };
  const child = start([process.execPath, suite, ...args], options);
  let output = '';
  const collect = (part) => {
    output += part;
    watch(output);
  };
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', collect);
  const overdue = setTimeout(() => child.kill('SIGKILL'), SUITE_MS);
  const [code] = await once(child, 'close');
  clearTimeout(overdue);
  return { code, output };
}
