// The official TypeScript SDK clients, doing the whole flow by themselves: 401, protected resource metadata,
// authorization server metadata, registration, authorization, token, then tools.
//
//   node client.mjs old|1|2 http|sse URL [--stdio]
//
// 1 is @modelcontextprotocol/sdk, 2 is @modelcontextprotocol/client, and old is the SDK before RFC 9728, which asks the
// MCP server's own origin who issues tokens. It prints one JSON line of what it saw.

import assert from 'node:assert/strict';
import { walk } from './walk.mjs';

const REDIRECT = 'http://127.0.0.1:1/callback';
const [generation, transportName, url] = process.argv.slice(2);
const seen = { refused: 0, requests: [] };

const sdk = async (name) =>
  Object.assign({}, ...(await Promise.all(['index', 'streamableHttp', 'sse', 'auth'].map((file) => import(`${name}/client/${file}.js`)))));
const library =
  generation === '2'
    ? await import('@modelcontextprotocol/client')
    : await sdk(generation === '1' ? '@modelcontextprotocol/sdk' : 'sdk-old');

const { fetch: plain } = globalThis;
const noting = async (input, init) => {
  const response = await plain(input, init);
  const asked = new URL(String(input));
  seen.requests.push(`${init?.method ?? 'GET'} ${asked.origin}${asked.pathname} ${response.status}`);
  if (response.status === 401) seen.refused += 1;
  return response;
};
// The old one takes no function of ours.
if (generation === 'old') globalThis.fetch = noting;

/** Remembers what a client has to remember, and lets a person be walked through the pages. */
class Memory {
  get redirectUrl() {
    return REDIRECT;
  }
  get clientMetadata() {
    return {
      client_name: `e2e ${generation}`,
      redirect_uris: [REDIRECT],
      grant_types: ['authorization_code', 'refresh_token'],
      response_types: ['code'],
      token_endpoint_auth_method: 'none',
    };
  }
  state() {
    return 'e2e-state';
  }
  clientInformation() {
    return this.client;
  }
  saveClientInformation(client) {
    this.client = client;
  }
  tokens() {
    return this.saved;
  }
  saveTokens(tokens) {
    this.saved = tokens;
  }
  async redirectToAuthorization(authorization) {
    const page = new URL(authorization);
    seen.requests.push(`GET ${page.origin}${page.pathname} in a browser`);
    this.landed = await walk(authorization, REDIRECT);
  }
  saveCodeVerifier(verifier) {
    this.verifier = verifier;
  }
  codeVerifier() {
    return this.verifier;
  }
  saveDiscoveryState(state) {
    this.discovery = state;
  }
  discoveryState() {
    return this.discovery;
  }
}

const memory = new Memory();

const open = () => {
  const options = {
    authProvider: memory,
    fetch: noting,
  };
  return transportName === 'sse'
    ? new library.SSEClientTransport(new URL(url), options)
    : new library.StreamableHTTPClientTransport(new URL(url), options);
};
const info = { name: 'e2e', version: '1' };
const make = () => new library.Client(info, generation === '2' ? { versionNegotiation: { mode: 'auto' } } : {});

async function connect() {
  const first = open();
  try {
    await make().connect(first);
    throw new Error('a client without a token was let in');
  } catch (error) {
    if (error?.name !== 'UnauthorizedError' && error?.constructor?.name !== 'UnauthorizedError') throw error;
  }
  const landed = memory.landed.searchParams;
  assert.equal(landed.get('error'), null, memory.landed.href);
  assert.equal(landed.get('state'), generation === 'old' ? null : 'e2e-state');
  await first.finishAuth(generation !== '2' ? landed.get('code') : landed);
  const client = make();
  await client.connect(open());
  return client;
}

const client = await connect();
const tools = (await client.listTools()).tools.map((tool) => tool.name);
assert.ok(tools.includes('echo') && tools.includes('count'), `${tools}`);
const said = await client.callTool({ name: 'echo', arguments: { message: 'hé, world' } });
assert.equal(said.content[0].text, 'hé, world');
if (tools.includes('headers')) {
  const names = (await client.callTool({ name: 'headers', arguments: {} })).content.map((c) => c.text).join(' ');
  // A program that is reached over stdio has no headers to tell of.
  if (!process.argv.includes('--stdio')) assert.match(names, /content-type/);
  assert.doesNotMatch(names, /authorization|cookie/i, 'the token went on to the server');
}
let progress = 0;
const countOptions = { onprogress: () => (progress += 1) };
const count = { name: 'count', arguments: { to: 3 } };
const counted =
  generation !== '2' ? await client.callTool(count, undefined, countOptions) : await client.callTool(count, countOptions);
assert.match(counted.content[0].text, /counted to 3/);
assert.ok(progress >= 2, `progress ${progress}`);
const resource = await client.readResource({ uri: 'echo://about' });
assert.match(resource.contents[0].text, /MCP server/);
const prompt = await client.getPrompt({ name: 'greeting', arguments: { name: 'Ada' } });
assert.match(prompt.messages[0].content.text, /Ada/);
assert.ok(seen.refused >= 1, 'the first request was not refused');
const version = client.getNegotiatedProtocolVersion?.() ?? client.transport?.protocolVersion;
await client.close();
console.log(JSON.stringify({ tools, progress, requests: seen.requests, refused: seen.refused, version, scope: memory.saved.scope, token: memory.saved.access_token }));
process.exit(0);
