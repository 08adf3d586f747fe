// What the suite starts as its client for scenarios about authorization. The proxy becomes the protected resource: it gets
// the mock server's public name, its metadata and its rules, and the mock server becomes the MCP server behind it.
//
//   node splice.mjs URL      CONFORMANCE_PROXY, CONFORMANCE_FOLDER, CONFORMANCE_REPORT and CONFORMANCE_RELAY say with what
//
// ```text
//  login.mjs ─ 401, metadata, scopes ─▶ proxy ─ who calls ─▶ shim ─ that caller's token ─▶ the suite's mock MCP server
//      │                                  └─ is it active? ─▶ introspection
//      └─ authorize, token, register ─▶ the suite's mock authorization server, or the proxy's login relay before it
// ```
//
// Two things of the mock servers have to be made good for. Their tokens are opaque and their authorization server does not
// say what they are worth, so an introspection endpoint of ours does: a token is active if the client got it, with the
// scopes that came with it. And the mock MCP server wants to see a token, while the proxy passes none on; so the shim adds
// the one that the caller, whom the proxy names, was let in with.

import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import http from 'node:http';
import { PATHS, beside, freePort, start, startConfigured } from './programs.mjs';

const OVERDUE_MS = 40_000;
const CREDENTIALS = { client_id: 'proxy', client_secret: 'of-the-proxy' };
const BASIC = `Basic ${Buffer.from(`${CREDENTIALS.client_id}:${CREDENTIALS.client_secret}`).toString('base64')}`;

const { CONFORMANCE_PROXY: binary, CONFORMANCE_FOLDER: folder, CONFORMANCE_REPORT: report } = process.env;
const { CONFORMANCE_RELAY: relay, MCP_CONFORMANCE_SCENARIO: scenario } = process.env;

/** What an operator would write where the mock server's challenge and metadata do not say it. */
const WRITTEN = {
  'auth/scope-step-up': {
    rules: { initialize: 'mcp:basic', 'server/discover': 'mcp:basic', 'tools/list': 'mcp:basic', 'tools/call': 'mcp:write' },
  },
  // The scope that this one asks for is never granted.
  'auth/scope-retry-limit': { grants: () => '' },
};
const { rules, grants = (scope) => scope } = WRITTEN[scenario] ?? {};

// The suite gives up after half a minute, and would leave us and what we started.
setTimeout(() => process.exit(1), OVERDUE_MS).unref();

const server = new URL(process.argv[2]);

async function body(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts).toString();
}

/** What the mock server says of itself, as an operator would look it up before putting a proxy in front of it. */
async function lookUp() {
  const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' };
  const message = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list', params: {} });
  const refused = await fetch(server, { method: 'POST', headers, body: message });
  await refused.text();
  const challenge = refused.headers.get('www-authenticate') ?? '';
  const told = (name) => new RegExp(`\\b${name}="([^"]*)"`).exec(challenge)?.[1];
  const known = '/.well-known/oauth-protected-resource';
  // The root document is asked for where nothing else is there: a trap of the suite's watches that.
  for (const place of [told('resource_metadata') ?? `${known}${server.pathname}`, known]) {
    const answer = await fetch(new URL(place, server));
    if (answer.ok) return { scope: told('scope'), ...(await answer.json()) };
    await answer.text();
  }
  // MCP 2025-03-26: the server's own origin is the authorization server.
  return { scope: told('scope'), authorization_servers: [server.origin] };
}

const tokens = new Map();
const seen = { introspected: 0, active: 0, forwarded: 0, tokens: 0 };
let resource = server.href;

/** RFC 7662, for the one client that the proxy is. */
async function introspect(request, response) {
  if (request.headers.authorization !== BASIC) return response.writeHead(401).end('{}');
  const token = new URLSearchParams(await body(request)).get('token');
  const known = [...tokens.values()].find((one) => one.token === token);
  seen.introspected += 1;
  seen.active += Number(known !== undefined);
  const exp = Math.floor(Date.now() / 1000) + 600;
  const answer = known
    ? { active: true, iss: known.issuer, aud: resource, sub: known.handle, client_id: 'login', scope: known.scope, exp }
    : { active: false };
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
}

/** To the mock server, with the token of whoever the proxy says is calling. */
async function forward(request, response) {
  const { authorization, 'x-mcp-auth-subject': handle, host, ...headers } = request.headers;
  seen.forwarded += 1;
  seen.tokens += Number(authorization !== undefined);
  headers.authorization = `Bearer ${tokens.get(handle)?.token}`;
  const onward = http.request(new URL(request.url, server), { method: request.method, headers });
  onward.on('response', (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  onward.on('error', () => response.destroy());
  request.pipe(onward);
}

const endpoints = {
  '/introspect': introspect,
  '/jwks': (_, response) => response.writeHead(200, { 'content-type': 'application/json' }).end('{"keys":[]}'),
  '/issued': async (request, response) => {
    const one = JSON.parse(await body(request));
    const handle = `caller-${randomUUID()}`;
    // A login relay issues in the name of its own origin; the tokens are those of the server behind it.
    const issuer = relay || one.issuer === undefined ? current : one.issuer;
    tokens.set(handle, { ...one, handle, scope: grants(one.scope), issuer });
    response.end();
  },
  '/migrated': async (_, response) => {
    await proxy.stop();
    finished += proxy.output;
    proxy = await raise();
    response.end();
  },
};
const beyond = http.createServer((request, response) => (endpoints[request.url] ?? forward)(request, response));
beyond.listen(0, '127.0.0.1');
await once(beyond, 'listening');
const own = `http://127.0.0.1:${beyond.address().port}`;

const port = await freePort();
let current;
let finished = '';

/** The proxy in the place of the mock server, as it describes itself now. */
async function raise() {
  const said = await lookUp();
  [current] = said.authorization_servers;
  resource = said.resource ?? server.href;
  const published = [...(said.scopes_supported ?? []), ...(rules ? [rules] : [])];
  // Endpoints of MCP 2025-03-26 stand where nothing describes them (ASR-01).
  const described = { base_url: current, path: { '/.well-known/oauth-authorization-server': { response: { issuer: current } } } };
  const config = {
    proxy_base_url: server.origin,
    base_url: own,
    paths: PATHS,
    identity_headers: true,
    timeout_seconds: 30,
    protected_resource_metadata: {
      resource_identifier: resource,
      audience: resource,
      authorization_servers: [current],
      ...(published.length > 0 && { scopes_supported: published }),
    },
    ...(said.scope && !rules && { required_scopes: said.scope.split(' ') }),
    issuers: [
      {
        issuer: current,
        jwks_uri: `${own}/jwks`,
        introspection: { endpoint: `${own}/introspect`, ...CREDENTIALS, cache_seconds: 0 },
      },
    ],
    ...(relay && { login_relay: 'advertised' }),
    ...(relay === 'described' && { default: described }),
  };
  return startConfigured({ binary, folder, port, config });
}

let proxy = await raise();
const command = [process.execPath, beside('login.mjs'), server.href];
const env = { ...process.env, CONFORMANCE_VIA: `${port}`, CONFORMANCE_WRAP: own };
const client = start(command, { stdio: ['ignore', 'inherit', 'inherit'], env });
const [code] = await once(client, 'close');
await proxy.stop();
beyond.close();
beyond.closeAllConnections();
writeFileSync(report, JSON.stringify({ ...seen, tokens: seen.tokens, log: finished + proxy.output, issued: [...tokens.values()] }));
process.exitCode = code ?? 1;
