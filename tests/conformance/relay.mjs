// The authorization server scenarios: the suite's client asks the proxy's login relay, in front of authorization servers
// that can do more and less, and the one that is built into `--local`.

import { Issuer } from './issuer.mjs';
import { freePort, startFixture, startLocal, startProxy } from './programs.mjs';
import { row, verdicts } from './scenarios.mjs';
import { walk } from './walk.mjs';

const METADATA = 'authorization-server-metadata-endpoint';
const GRANT = 'authorization-code-grant';
const REVISION = '2026-07-28';
const CIMD = { client_id_metadata_document_supported: true };

/** What is asked, and what must come out: nothing wrong, or these checks. */
const CASES = [
  { who: 'relay', provider: CIMD, wrong: { [METADATA]: [], [GRANT]: [] }, why: 'the provider has client ID metadata documents' },
  { who: 'relay at /mcp', provider: CIMD, path: '/mcp', wrong: { [METADATA]: [], [GRANT]: [] }, why: 'its document for that path' },
  {
    who: 'relay',
    provider: {},
    wrong: { [METADATA]: ['authorization-server-metadata-cimd'], [GRANT]: [] },
    why: 'the provider has none, and the relay does not say otherwise',
  },
  {
    who: 'relay',
    provider: { ...CIMD, authorization_response_iss_parameter_supported: true },
    wrong: { [METADATA]: [], [GRANT]: [GRANT] },
    why: 'the provider names itself in its answer (RFC 9207)',
  },
  {
    who: '--local',
    wrong: { [METADATA]: ['authorization-server-metadata-cimd'], [GRANT]: [] },
    why: 'it fetches nothing, and so no client ID metadata documents',
  },
];

/** Runs `body` with the URL of the authorization server of a case. */
async function withServer({ binary, folder }, { who, provider, path = '' }, body) {
  if (who === '--local') {
    const local = await startLocal({ binary });
    try {
      return await body(local.issuer, local);
    } finally {
      await local.stop();
    }
  }
  const issuer = await Issuer.start(0, provider);
  const fixture = await startFixture('--any-host');
  const [server, more] = [new URL(fixture.url).origin, { login_relay: 'advertised' }];
  const proxy = await startProxy({ binary, folder, server, issuer: issuer.url, more });
  try {
    return await body(`${new URL(proxy.url).origin}${path}`, proxy);
  } finally {
    await proxy.stop();
    await fixture.stop();
    await issuer.stop();
  }
}

/** A client of that authorization server: one that it registers, where it does. */
async function clientOf(url, redirect) {
  const metadata = await (await fetch(new URL('/.well-known/oauth-authorization-server', url))).json();
  if (!metadata.registration_endpoint) return 'conformance';
  const body = JSON.stringify({ redirect_uris: [redirect], token_endpoint_auth_method: 'none', client_name: 'conformance' });
  const headers = { 'content-type': 'application/json' };
  return (await (await fetch(metadata.registration_endpoint, { method: 'POST', headers, body })).json()).client_id;
}

export async function relay({ binary, folder, tally }) {
  console.log(row('authorization server scenarios', '', '', 'checks passed/failed'));
  let green = 0;
  let all = 0;
  for (const one of CASES) {
    await withServer({ binary, folder }, one, async (url, program) => {
      const port = await freePort();
      const redirect = `http://127.0.0.1:${port}/callback`;
      const client = await clientOf(url, redirect);
      // The suite prints where a person has to go, and waits.
      let walked;
      const watch = (output) => {
        const found = /^(http\S+response_type=code\S+)\n/m.exec(output);
        if (found && output.includes('Callback server started') && !walked) walked = walk(found[1], redirect).then((landing) => fetch(landing)).catch((err) => err);
      };
      const options = ['--client-id', client, '--resource', program.url, '--port', `${port}`, '--spec-version', REVISION];
      const found = await verdicts(folder, ['authorization', '--url', url, ...options], {}, watch);
      const landed = await walked;
      tally.holds(`a person gets through the login, ${one.who}: ${one.why}`, landed?.ok === true, [`${landed}`]);
      for (const [name, expected] of Object.entries(one.wrong)) {
        const verdict = found.get(name);
        const wrong = (verdict?.checks ?? []).filter(({ status }) => status !== 'SUCCESS').map(({ id }) => id);
        const note = expected.length > 0 || name === METADATA ? one.why : '';
        console.log(row(`  ${name.slice('authorization-'.length)}, ${one.who}`, '', verdict?.told ?? '-', note));
        const holds = verdict !== undefined && verdict.checks.length > 0 && `${wrong}` === `${expected}`;
        tally.holds(`${name}, ${one.who}: ${one.why}`, holds, verdict?.reasons ?? ['not run']);
        all += 1;
        green += Number(verdict?.green ?? false);
      }
    });
  }
  return `${green}/${all} authorization server scenarios green, the others as they must be`;
}
