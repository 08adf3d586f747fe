// The official TypeScript SDK clients at real MCP servers that are programs, with everything that such a server asks of
// its client: progress, cancellation, sampling, elicitation, roots and log messages.
//
//   node stdio.mjs 1|2|auto http|sse URL TOKEN everything|filesystem|fast [FOLDER]
//
// 1 is @modelcontextprotocol/sdk, 2 is @modelcontextprotocol/client as it comes, and auto is the same where it may choose
// the revision of 2026-07-28. It prints one JSON line of what it saw.

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
const negotiation = generation === 'auto' ? { versionNegotiation: { mode: 'auto' } } : {};
const client = new library.Client({ name: 'e2e', version: '1' }, { capabilities, ...negotiation });
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
/** Calls what reports its progress in four steps. */
const gradual = async (name, args, expected) => {
  let progress = 0;
  // What a client of 2026-07-28 tells by itself, that it was asked for something, has no total.
  const onprogress = (told) => (progress += told.total === 4 ? 1 : 0);
  assert.match(text(await call(name, { ...args, steps: 4 }, { onprogress })), expected);
  // The SDK forgets a request's progress handler when the answer comes in the same read as the last progress.
  assert.ok(progress >= 2 && progress <= 4, `progress ${progress}`);
  seen.progress = progress;
};
/** Calls, and thinks better of it at the first sign of progress. */
const cancel = async (name, args) => {
  const abort = new AbortController();
  const cancelled = call(name, args, { signal: abort.signal, onprogress: () => abort.abort('not needed any more') });
  await assert.rejects(cancelled, (error) => !/took more than/.test(error.message));
  assert.ok(abort.signal.aborted, 'it ended by itself');
};
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
} else if (server === 'fast') {
  assert.match(text(await call('echo', { message: 'hé, world' })), /^hé, world$/);
  await gradual('wait', { seconds: 1 }, /waited 4 steps/);
  const before = Number(text(await call('cancellations', {})));
  await cancel('wait', { seconds: 60, steps: 120 });
  const until = Date.now() + 15_000;
  while (Number(text(await call('cancellations', {}))) !== before + 1) {
    assert.ok(Date.now() < until, 'the server was not told of the cancellation');
    await new Promise((done) => setTimeout(done, 50));
  }
  assert.match(text(await call('ask', {})), /hello Ada/);
  assert.deepEqual(asked, ['elicitation/create']);
  seen.asked = asked;
} else {
  const echoed = await call('echo', { message: 'hé, world' });
  assert.match(text(echoed), /hé, world/);

  await gradual('trigger-long-running-operation', { duration: 1 }, /completed/);
  await cancel('trigger-long-running-operation', { duration: 60, steps: 120 });

  assert.match(text(await call('trigger-sampling-request', { prompt: 'x', maxTokens: 5 })), /sampled here/);
  assert.match(text(await call('trigger-elicitation-request', {})), /Ada/);
  assert.match(text(await call('get-roots-list', {})), /a root/);
  // Clients of 2026-07-28 have no session, so the server may know the roots from this user's last call.
  const roots = client.getNegotiatedProtocolVersion?.() === '2026-07-28' ? [] : ['roots/list'];
  for (const method of ['sampling/createMessage', 'elicitation/create', ...roots]) assert.ok(asked.includes(method), method);
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
if (transportName === 'http' && seen.version !== '2026-07-28') {
  assert.ok(seen.session, 'a session was named');
  await transport.terminateSession();
  await assert.rejects(within(client.listTools(), 5, 'a call in an ended session'), /404|not found|session/i);
}
await client.close();
console.log(JSON.stringify({ ...seen, requests: requests.length, events: requests.filter((r) => r.includes('event-stream')).length }));
process.exit(0);
