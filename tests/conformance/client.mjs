// The reference client for the suite's client scenarios, on the official SDK: it connects, and then uses whatever the
// server shows: each tool, each resource, each prompt. The suite's mock server judges what arrives there.
//
//   node client.mjs URL      MCP_CONFORMANCE_PROTOCOL_VERSION chooses the era, MCP_BEARER is sent where it is set

import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const { MCP_BEARER: token, MCP_CONFORMANCE_CONTEXT: context, MCP_CONFORMANCE_PROTOCOL_VERSION: revision } = process.env;

const client = new Client(
  { name: 'conformance-client', version: '1.0.0' },
  {
    capabilities: { elicitation: { form: { applyDefaults: true } }, roots: {}, sampling: {} },
    versionNegotiation: { mode: revision >= '2026-07-28' ? 'auto' : 'legacy' },
  },
);
client.setRequestHandler('elicitation/create', () => ({ action: 'accept', content: {} }));
client.setRequestHandler('roots/list', () => ({ roots: [{ uri: 'file:///conformance', name: 'root' }] }));
client.setRequestHandler('sampling/createMessage', () => ({
  role: 'assistant',
  content: { type: 'text', text: 'Said by no model.' },
  model: 'none',
  stopReason: 'endTurn',
}));

/** Something that a schema allows, for each property that it requires. */
function made({ properties = {}, required = [] }) {
  const kinds = { number: 2, integer: 3, boolean: true, array: [], object: {}, null: null };
  return Object.fromEntries(required.map((name) => [name, kinds[properties[name]?.type] ?? 'text']));
}

async function callTools() {
  const given = JSON.parse(context ?? '{}').toolCalls;
  const { tools } = await client.listTools();
  const rich = tools.find(({ name }) => name === 'json_schema_2020_12_tool');
  const calls = tools.filter((tool) => tool !== rich).map(({ name, inputSchema }) => {
    const asked = made(inputSchema);
    // The one tool that takes a schema wants the one that another tool has, as it arrived here.
    if ('schema' in (inputSchema.properties ?? {}) && rich) asked.schema = rich.inputSchema;
    return { name, arguments: asked };
  });
  for (const call of given ?? calls) await client.callTool(call);
}

async function readResources() {
  const { resources } = await client.listResources();
  for (const { uri } of resources) await client.readResource({ uri });
}

async function getPrompts() {
  const { prompts } = await client.listPrompts();
  for (const { name, arguments: asked = [] } of prompts) {
    await client.getPrompt({ name, arguments: Object.fromEntries(asked.map((argument) => [argument.name, 'text'])) });
  }
}

const headers = token ? { authorization: `Bearer ${token}` } : {};
await client.connect(new StreamableHTTPClientTransport(new URL(process.argv[2]), { requestInit: { headers } }));
const can = client.getServerCapabilities() ?? {};
// A tool list is asked for where none is promised, too: some mock servers promise nothing and count what comes.
await callTools();
if (can.resources) await readResources();
if (can.prompts) await getPrompts();
await client.close();
