// Which tokens are let in: six checks, once for each revision, and all of it twice against one proxy process. The issuer
// is not there when the proxy starts, and each time it comes back it has another key under the same `kid`, as one that
// keeps its keys in memory does.

import { Issuer } from './issuer.mjs';
import { freePort, startFixture, startProxy } from './programs.mjs';

const RUNS = 2;
const REVISIONS = ['2025-06-18', '2025-11-25', '2026-07-28'];
const WAIT_MS = 20_000;

/** The first message of a client of that revision. */
function opening(revision) {
  const clientInfo = { name: 'audience-checks', version: '1.0.0' };
  const headers = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' };
  if (revision < '2026-07-28') {
    const params = { protocolVersion: revision, capabilities: {}, clientInfo };
    return { headers, body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params }) };
  }
  const _meta = {
    'io.modelcontextprotocol/protocolVersion': revision,
    'io.modelcontextprotocol/clientInfo': clientInfo,
    'io.modelcontextprotocol/clientCapabilities': {},
  };
  const method = 'server/discover';
  Object.assign(headers, { 'mcp-protocol-version': revision, 'mcp-method': method });
  return { headers, body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params: { _meta } }) };
}

const minutesAgo = (minutes) => Math.floor(Date.now() / 1000) - 60 * minutes;

export async function audience({ binary, folder, tally }) {
  const port = await freePort();
  const fixture = await startFixture('--any-host');
  const server = new URL(fixture.url).origin;
  const proxy = await startProxy({ binary, folder, server, issuer: `http://127.0.0.1:${port}` });
  await proxy.says(/keys cannot be fetched/);

  console.log(`${'tokens'.padEnd(34)}${'run'.padStart(4)}  revision    status  challenge`);
  for (let run = 1; run <= RUNS; run += 1) {
    for (const revision of REVISIONS) {
      const issuer = await Issuer.start(port);
      const cases = [
        ['no token', undefined],
        ['a good token', issuer.token(proxy.url)],
        ['another audience', issuer.token('https://elsewhere.example/mcp')],
        ['no audience', issuer.token(undefined)],
        ['expired', issuer.token(proxy.url, { iat: minutesAgo(70), exp: minutesAgo(10) })],
        ['signed by a stranger', await issuer.forged(proxy.url)],
      ];
      for (const [given, token] of cases) {
        const good = given === 'a good token';
        const before = (await fixture.seen()).requests;
        const { headers, body } = opening(revision);
        if (token !== undefined) headers.authorization = `Bearer ${token}`;
        const answer = await fetch(proxy.url, { method: 'POST', headers, body, signal: AbortSignal.timeout(WAIT_MS) });
        const text = await answer.text();
        const challenge = answer.headers.get('www-authenticate') ?? '';
        const error = /error="(\w+)"/.exec(challenge)?.[1];
        const reached = (await fixture.seen()).requests - before;
        const told = error ?? (challenge ? 'without error' : '-');
        console.log(`  ${given.padEnd(32)}${`${run}`.padStart(4)}  ${revision}  ${`${answer.status}`.padStart(6)}  ${told}`);
        const served = answer.status === 200 && text.includes('conformance-fixture') && reached === 1;
        const named = error === (token === undefined ? undefined : 'invalid_token');
        const refused = answer.status === 401 && challenge.includes('resource_metadata=') && named && reached === 0;
        tally.holds(`${given}, run ${run}, ${revision}`, good ? served : refused, [
          `answered ${answer.status}, ${challenge || 'no challenge'}; ${reached} requests reached the server`,
        ]);
      }
      await issuer.stop();
    }
  }
  const { authorization } = await fixture.seen();
  tally.holds('no token reaches the server', authorization === 0);
  await proxy.stop();
  await fixture.stop();
  return `six checks, ${REVISIONS.length} revisions, ${RUNS} runs against one proxy process`;
}
