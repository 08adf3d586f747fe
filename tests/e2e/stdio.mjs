// The official TypeScript SDK clients at real MCP servers that are programs, with everything that such a server asks of
// its client: progress, cancellation, sampling, elicitation, roots and log messages.
//
//   node stdio.mjs 1|2 http|sse URL TOKEN everything|filesystem [FOLDER]
//
// It prints one JSON line of what it saw.

import assert from 'node:assert/strict';

const [generation, transportName, url, token, server, folder] = process.argv.slice(2);
const old = generation === '1';
const library = old
  ? {
      ...(await import('@modelcontextprotocol/sdk/client/index.js')),
      ...(await import('@modelcontextprotocol/sdk/client/streamableHttp.js')),
      ...(await import('@modelcontextprotocol/sdk/client/sse.js')),
      ...(await import('@modelcontextprotocol/sdk/types.js')),
    }
  : await import('@modelcontextprotocol/client');

const requests = [];
const options = {
  requestInit: { headers: { Authorization: `Bearer ${token}` } },
  fetch: async (input, init) => {
    const headers = new Headers(init?.headers);
    headers.set('Authorization', `Bearer ${token}`);
    const response = await fetch(input, { ...init, headers });
    requests.push(`${init?.method ?? 'GET'} ${response.status} ${response.headers.get('content-type') ?? ''}`);
    return response;
  },
};
const transport =
  transportName === 'sse'
    ? new library.SSEClientTransport(new URL(url), options)
    : new library.StreamableHTTPClientTransport(new URL(url), options);

const capabilities = { sampling: {}, elicitation: {}, roots: { listChanged: true } };
const client = new library.Client({ name: 'e2e', version: '1' }, { capabilities });
const asked = [];
const answer = (method, schema, result) =>
  client.setRequestHandler(old ? schema : method, async (request) => {
    asked.push(method);
    return result(request);
  });
answer('sampling/createMessage', library.CreateMessageRequestSchema, () => ({
  model: 'none',
  role: 'assistant',
  content: { type: 'text', text: 'sampled here' },
}));
answer('elicitation/create', library.ElicitRequestSchema, () => ({ action: 'accept', content: { name: 'Ada', check: true } }));
answer('roots/list', library.ListRootsRequestSchema, () => ({ roots: [{ uri: 'file:///tmp', name: 'a root' }] }));

const within = (promise, seconds, what) =>
  Promise.race([
    promise,
    new Promise((_, reject) => setTimeout(() => reject(new Error(`${what} took more than ${seconds} s`)), seconds * 1000)),
  ]);
const call = (name, args, options = {}) =>
  within(
    old ? client.callTool({ name, arguments: args }, undefined, options) : client.callTool({ name, arguments: args }, options),
    20,
    name,
  );
const text = (result) => result.content.map((part) => part.text ?? '').join('\n');

await within(client.connect(transport), 20, 'connect');
const tools = (await client.listTools()).tools.map((tool) => tool.name);
const seen = { tools: tools.length };

if (server === 'filesystem') {
  const written = await call('write_file', { path: `${folder}/note.txt`, content: 'hé\n'.repeat(50_000) });
  assert.match(text(written), /wrote/i);
  const read = await call('read_text_file', { path: `${folder}/note.txt` });
  assert.equal(text(read).split('\n').filter((line) => line === 'hé').length, 50_000);
  const outside = await call('read_text_file', { path: '/etc/hostname' });
  assert.ok(outside.isError, 'the server keeps to its folder');
} else {
  const echoed = await call('echo', { message: 'hé, world' });
  assert.match(text(echoed), /hé, world/);

  let progress = 0;
  const long = await call('trigger-long-running-operation', { duration: 1, steps: 4 }, { onprogress: () => (progress += 1) });
  assert.match(text(long), /completed/);
  // The SDK forgets a request's progress handler when the answer comes in the same read as the last progress.
  assert.ok(progress === 3 || progress === 4, `progress ${progress}`);
  seen.progress = progress;

  const abort = new AbortController();
  const cancelled = call('trigger-long-running-operation', { duration: 15, steps: 5 }, { signal: abort.signal });
  setTimeout(() => abort.abort('not needed any more'), 300);
  await assert.rejects(within(cancelled, 5, 'cancelling'));

  assert.match(text(await call('trigger-sampling-request', { prompt: 'x', maxTokens: 5 })), /sampled here/);
  assert.match(text(await call('trigger-elicitation-request', {})), /Ada/);
  assert.match(text(await call('get-roots-list', {})), /a root/);
  for (const method of ['sampling/createMessage', 'elicitation/create', 'roots/list']) assert.ok(asked.includes(method), method);
  seen.asked = asked;

  const many = await Promise.all(Array.from({ length: 40 }, (_, n) => call('get-sum', { a: n, b: 1000 })));
  many.forEach((result, n) => assert.match(text(result), new RegExp(`\\b${n + 1000}\\b`)));
  seen.concurrent = many.length;

  const environment = text(await call('get-env', {}));
  assert.match(environment, /PATH/);
  assert.doesNotMatch(environment, /E2E_SECRET/, 'the environment of the proxy is not passed on');
}

seen.session = transport.sessionId !== undefined;
seen.version = client.getNegotiatedProtocolVersion?.() ?? transport.protocolVersion;
if (transportName === 'http') {
  assert.ok(seen.session, 'a session was named');
  await transport.terminateSession();
  await assert.rejects(within(client.listTools(), 5, 'a call in an ended session'), /404|not found|session/i);
}
await client.close();
console.log(JSON.stringify({ ...seen, requests: requests.length, events: requests.filter((r) => r.includes('event-stream')).length }));
process.exit(0);
