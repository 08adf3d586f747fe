// What the suite starts as its client: puts the proxy in front of the suite's mock server, and runs the reference client
// against the proxy. The suite does not notice; whatever its mock server sees has come through the proxy.
//
//   node wrap.mjs URL        CONFORMANCE_PROXY, CONFORMANCE_FOLDER, CONFORMANCE_ISSUER and MCP_BEARER say with what

import { once } from 'node:events';
import { AUDIENCE, beside, start, startProxy } from './programs.mjs';

const OVERDUE_MS = 40_000;

const { CONFORMANCE_PROXY: binary, CONFORMANCE_FOLDER: folder, CONFORMANCE_ISSUER: issuer } = process.env;

// The suite gives up after half a minute, and would leave us and what we started.
setTimeout(() => process.exit(1), OVERDUE_MS).unref();

const server = new URL(process.argv[2]).origin;
const proxy = await startProxy({ binary, folder, server, issuer, audience: AUDIENCE });
const client = start([process.execPath, beside('client.mjs'), proxy.url], { stdio: ['ignore', 'inherit', 'inherit'] });
const [code] = await once(client, 'close');
await proxy.stop();
const through = proxy.output.match(/ POST /g)?.length ?? 0;
if (through === 0) throw new Error(`nothing went through the proxy:\n${proxy.output}`);
process.exitCode = code ?? 1;
