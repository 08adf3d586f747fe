// A person with the MCP Inspector in chromium, at --local and at oidc-provider: connects, logs in, allows, lists the tools
// and runs one. Everything listens on loopback, every wait has an end, and only what was started here is ended.
//
//   node walk.mjs PROXY FOLDER_OF_PROVIDER PYTHON ECHO_SERVER CHROMIUM [FOLDER_FOR_PICTURES]

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';

const [proxy, providerFolder, python, echoServer, browserPath, pictures] = process.argv.slice(2);
const START_MS = 30_000;
const STEP_MS = 20_000;
const folder = mkdtempSync(join(tmpdir(), 'browser-'));
const running = [];
let [passed, failed] = [0, 0];

const freePort = () =>
  new Promise((found, wrong) => {
    const server = createServer().once('error', wrong);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address();
      server.close(() => found(port));
    });
  });

const listens = (port) =>
  new Promise((told) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => told(true)).once('error', () => told(false)).once('close', () => socket.destroy());
    socket.unref();
  });

/** Starts a program and waits until it listens on a port, or has printed a pattern, whose match comes back. */
async function start(command, ready, more = {}) {
  const child = spawn(command[0], command.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], ...more });
  let text = '';
  child.stdout.on('data', (chunk) => (text += chunk));
  child.stderr.on('data', (chunk) => (text += chunk));
  child.once('error', (error) => (text += error));
  running.push(child);
  for (const end = Date.now() + START_MS; Date.now() < end && child.exitCode === null; await sleep(50)) {
    const found = typeof ready === 'number' ? await listens(ready) : ready.exec(text);
    if (found) return found;
  }
  throw new Error(`${command[0]} did not start:\n${text.slice(-2000)}`);
}

async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const over = new Promise((told) => child.once('exit', told));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
  await over;
  clearTimeout(timer);
}

async function inspector() {
  const [port, sandbox] = [await freePort(), await freePort()];
  const catalog = join(folder, 'catalog.json');
  writeFileSync(catalog, '{"mcpServers":{}}');
  const program = resolve('node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js');
  const env = {
    PATH: process.env.PATH,
    HOME: folder,
    CLIENT_PORT: String(port),
    MCP_SANDBOX_PORT: String(sandbox),
    MCP_AUTO_OPEN_ENABLED: 'false',
    MCP_CATALOG_PATH: catalog,
    MCP_INSPECTOR_SECRET_STORE: 'memory',
  };
  // Its page is opened with the token that it prints, as a person would.
  const [url] = await start([process.execPath, program, '--web'], /http:\/\/127\.0\.0\.1:\d+\/?\?MCP_INSPECTOR_API_TOKEN=\w+/, { env });
  return url;
}

/** One walk: `login` brings the page from our 401 to the Inspector's callback. */
async function walk(name, page, tool, url, login) {
  const id = name.replaceAll(/\W/g, '');
  const step = async (what, work) => {
    await work();
    passed += 1;
    console.log(`ok   ${name}: ${what}`);
  };
  try {
    await step('the Inspector has the server, Streamable HTTP', async () => {
      await page.goto(tool);
      await page.getByRole('button', { name: 'Add Servers' }).click();
      await page.getByRole('menuitem', { name: 'Add manually' }).click();
      await page.getByRole('textbox', { name: 'Server ID' }).fill(id);
      await page.getByRole('textbox', { name: 'Transport' }).click();
      await page.getByRole('option', { name: 'streamable-http' }).click();
      await page.getByRole('textbox', { name: 'URL' }).fill(url);
      await page.getByRole('button', { name: 'Add', exact: true }).click();
    });
    await page.getByRole('switch', { name: `Connect or disconnect "${id}"` }).press('Space');
    await login(step);
    await step('back at the Inspector, connected', async () => {
      await page.waitForURL((at) => at.origin === new URL(tool).origin);
      await page.getByText('Connected', { exact: true }).first().waitFor();
    });
    await step('it lists the tools', async () => {
      await page.getByText('Tools', { exact: true }).first().click();
      for (const one of ['echo', 'shout', 'count']) await page.getByRole('button', { name: one, exact: true }).waitFor();
    });
    await step('echo answers what it was told', async () => {
      const told = `seen in a browser, ${id}`;
      await page.getByRole('button', { name: 'echo', exact: true }).click();
      await page.getByRole('textbox', { name: /^message/i }).fill(told);
      assert.equal(await page.getByText(told).count(), 0, 'the answer stands there before the call');
      await page.getByRole('button', { name: /^(execute|run|call)/i }).first().click();
      await page.getByText(told).first().waitFor();
    });
    if (name === '--local' && pictures) await page.screenshot({ path: join(pictures, 'inspector.png') });
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}: ${error.message ?? error}\n  at ${page.url().split('?')[0]}`);
    console.log((await page.locator('body').ariaSnapshot().catch(() => '')).slice(0, 5000));
  }
}

async function local(page, tool) {
  const [, url] = await start([proxy, '--local', '--listen', '127.0.0.1:0'], /MCP endpoint\s+(http:\S+\/mcp)/);
  await walk('--local', page, tool, url, async (step) => {
    const allow = page.getByRole('button', { name: 'Allow', exact: true });
    await step('the consent page names the client, the server and the scopes', async () => {
      await allow.waitFor();
      const text = await page.locator('body').innerText();
      for (const part of ['MCP Inspector', url, 'mcp:read', 'mcp:echo', new URL(tool).origin]) assert.ok(text.includes(part), part);
    });
    if (pictures) await page.screenshot({ path: join(pictures, 'consent.png') });
    await allow.click();
  });
}

async function provider(page, tool) {
  const [issuer, behind, port] = [await freePort(), await freePort(), await freePort()];
  await start([process.execPath, 'provider.mjs', String(issuer)], /issuer http/, { cwd: providerFolder });
  await start([python, echoServer, '--port', String(behind)], behind);
  const [origin, issued] = [`http://127.0.0.1:${port}`, `http://127.0.0.1:${issuer}`];
  const config = join(folder, 'config.yaml');
  writeFileSync(
    config,
    `proxy_base_url: ${origin}
listen_port: ${port}
base_url: http://127.0.0.1:${behind}
cors:
  allowed_origins: ["${new URL(tool).origin}"]
protected_resource_metadata:
  resource_identifier: ${origin}/mcp
  audience: ${origin}/mcp
  authorization_servers: ["${issued}"]
  scopes_supported:
    - "tools/call":
        - echo: mcp:echo
    - resources: mcp:read
`,
  );
  await start([proxy, '--config', config], port);
  await walk('oidc-provider', page, tool, `${origin}/mcp`, async (step) => {
    await step('its login page', async () => {
      await page.locator('input[name=login]').fill('alice');
      assert.equal(new URL(page.url()).origin, issued);
      await page.locator('input[name=password]').fill('secret');
      await page.locator('button[type=submit]').click();
    });
    await step('its consent page', async () => {
      await page.locator('input[name=login]').waitFor({ state: 'detached' });
      assert.equal(new URL(page.url()).origin, issued);
      await page.locator('button[type=submit]').click();
    });
  });
}

let context;
try {
  const tool = await inspector();
  context = await chromium.launchPersistentContext(join(folder, 'profile'), {
    executablePath: browserPath,
    headless: true,
    timeout: START_MS,
    viewport: { width: 900, height: 900 },
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync',
    ],
  });
  // The Inspector's page asks for fonts elsewhere: nothing here leaves loopback.
  await context.route((url) => !['127.0.0.1', 'localhost'].includes(url.hostname), (route) => route.abort());
  context.setDefaultTimeout(STEP_MS);
  const page = context.pages()[0] ?? (await context.newPage());
  await local(page, tool);
  await provider(await context.newPage(), tool);
} catch (error) {
  failed += 1;
  console.log(`FAIL ${error.message ?? error}`);
} finally {
  await context?.close();
  await Promise.all(running.map(stop));
  rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
}
console.log(`browser: ${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
