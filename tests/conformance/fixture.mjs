// An MCP server of both eras, with the tools, prompts and resources that the official conformance scenarios ask for by
// name. It knows nothing of tokens: everything it serves through the proxy, the proxy has let through.
//
//   node fixture.mjs http [--any-host]   prints {"url": …}; without --any-host it refuses foreign Host and Origin headers
//   node fixture.mjs stdio [--legacy|--modern]   the same server on standard input and output, of one era or of both
//
// GET /seen answers {"requests", "authorization"}: how many requests came to /mcp, and how many of them with a token.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import {
  hostHeaderValidation,
  NodeStreamableHTTPServerTransport,
  originValidation,
  toNodeHandler,
} from '@modelcontextprotocol/node';
import { createMcpHandler, isLegacyRequest, McpServer } from '@modelcontextprotocol/server';
import { serveStdio, StdioServerTransport } from '@modelcontextprotocol/server/stdio';
import { addPrompts, addResources } from './fixture-content.mjs';
import { addQuestions, stateCodec } from './fixture-questions.mjs';
import { addTools } from './fixture-tools.mjs';

const RETRY_MS = 300;
const LOCAL = ['localhost', '127.0.0.1', '[::1]'];

/** One server; `announce` tells the open listen streams that a list has changed. */
function build(announce) {
  const server = new McpServer(
    { name: 'conformance-fixture', version: '1.0.0' },
    {
      capabilities: {
        completions: {},
        logging: {},
        prompts: { listChanged: true },
        resources: { listChanged: true, subscribe: true },
        tools: { listChanged: true },
      },
      cacheHints: { 'tools/list': { ttlMs: 60_000, cacheScope: 'public' } },
      requestState: { verify: stateCodec.verify },
    },
  );
  addTools(server, announce(server));
  addQuestions(server);
  addPrompts(server);
  addResources(server);
  return server;
}

/** The events of one session, so that a client that lost its stream can ask for what it missed. */
class Events {
  #kept = [];

  async storeEvent(stream, message) {
    this.#kept.push({ stream, message });
    return `${this.#kept.length}`;
  }

  async getStreamIdForEventId(id) {
    return this.#kept[Number(id) - 1]?.stream;
  }

  async replayEventsAfter(id, { send }) {
    const { stream } = this.#kept[Number(id) - 1];
    for (const [at, event] of this.#kept.entries()) {
      // An event without a message opened the stream; it is nothing to repeat.
      const missed = at >= Number(id) && event.stream === stream && event.message.jsonrpc !== undefined;
      if (missed) await send(`${at + 1}`, event.message);
    }
    return stream;
  }
}

/** Sessions of the revisions up to 2025-11-25, each with a server of its own. */
class Sessions {
  #open = new Map();

  async serve(request, response, body) {
    const id = request.headers['mcp-session-id'];
    const transport = id === undefined ? await this.#begin() : this.#open.get(id);
    if (transport === undefined) {
      const error = { jsonrpc: '2.0', id: null, error: { code: -32001, message: 'no such session' } };
      response.writeHead(404, { 'content-type': 'application/json' }).end(JSON.stringify(error));
      return;
    }
    await transport.handleRequest(request, response, body);
  }

  async #begin() {
    const transport = new NodeStreamableHTTPServerTransport({
      sessionIdGenerator: randomUUID,
      eventStore: new Events(),
      retryInterval: RETRY_MS,
      onsessioninitialized: (id) => this.#open.set(id, transport),
      onsessionclosed: (id) => this.#open.delete(id),
    });
    await build(announceThroughServer).connect(transport);
    return transport;
  }
}

const announceThroughServer = (server) => ({
  toolsChanged: () => server.sendToolListChanged(),
  promptsChanged: () => server.sendPromptListChanged(),
});

async function read(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
}

function serveHttp(anyHost) {
  const modern = createMcpHandler(() => build(() => modern.notify), { legacy: 'reject' });
  const serveModern = toNodeHandler(modern);
  const sessions = new Sessions();
  const guards = anyHost ? [] : [hostHeaderValidation(LOCAL), originValidation(LOCAL)];
  const seen = { requests: 0, authorization: 0 };

  const listener = createServer(async (request, response) => {
    if (request.url === '/seen') {
      response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(seen));
      return;
    }
    if (request.url !== '/mcp') {
      response.writeHead(404).end();
      return;
    }
    seen.requests += 1;
    if (request.headers.authorization !== undefined) seen.authorization += 1;
    if (!guards.every((allows) => allows(request, response))) return;
    const bytes = await read(request);
    let body;
    try {
      body = bytes.length === 0 ? undefined : JSON.parse(bytes);
    } catch {
      response.writeHead(400, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ jsonrpc: '2.0', id: null, error: { code: -32700, message: 'not JSON' } }));
      return;
    }
    const headers = Object.entries(request.headers).filter(([, value]) => typeof value === 'string');
    const url = `http://${request.headers.host}/mcp`;
    const asked = new Request(url, { method: request.method, headers, body: bytes.length === 0 ? undefined : bytes });
    if (await isLegacyRequest(asked, body)) await sessions.serve(request, response, body);
    else await serveModern(request, response, body);
  });
  listener.listen(0, '127.0.0.1', () => {
    console.log(JSON.stringify({ url: `http://127.0.0.1:${listener.address().port}/mcp` }));
  });
}

const [kind, ...flags] = process.argv.slice(2);
if (kind === 'http') serveHttp(flags.includes('--any-host'));
else if (kind === 'stdio' && flags.includes('--legacy')) {
  // A server that is connected by hand knows sessions and nothing else.
  await build(announceThroughServer).connect(new StdioServerTransport());
} else if (kind === 'stdio') {
  serveStdio(() => build(announceThroughServer), { legacy: flags.includes('--modern') ? 'reject' : 'serve' });
}
else throw new Error(`http or stdio, not ${kind}`);
