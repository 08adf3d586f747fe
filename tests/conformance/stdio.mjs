// The same server scenarios, with the fixture as a program behind the bridge: one that speaks both eras, and one of each
// that speaks a single era, which the bridge translates for. A scenario that cannot pass is named here with the reason.

import { Issuer } from './issuer.mjs';
import { AUDIENCE, beside, startProxy } from './programs.mjs';
import { row, scored, verdicts } from './scenarios.mjs';

/** How often one scenario is tried: some probes give a server half a second. */
const TRIES = 2;

/** What each fixture is asked at which revision, and which scenarios cannot pass. */
const RUNS = [
  {
    era: 'dual',
    revision: '2025-11-25',
    also: ['server-session-lifecycle', 'server-sse-polling'],
  },
  {
    era: 'dual',
    revision: '2026-07-28',
    also: ['http-header-validation', 'http-custom-header-server-validation'],
  },
  { era: 'legacy', revision: '2026-07-28', also: ['http-header-validation', 'http-custom-header-server-validation'] },
  { era: 'modern', revision: '2025-11-25', also: ['server-session-lifecycle'] },
];

/** Scenarios that no translation can make pass, and why. */
const CANNOT = {
  'legacy 2026-07-28': {
    'input-required-result-basic-elicitation':
      'it asks for a key that the server chooses, and a request of a session has none',
    'input-required-result-capability-check':
      'a session is told once what its client can do, so the bridge says everything, and refuses with -32021 what the caller cannot',
  },
};

const bearing = (token, url) => ({
  MCP_BEARER: token,
  MCP_BEARER_ORIGIN: new URL(url).origin,
  NODE_OPTIONS: `--import ${beside('bearer.mjs')}`,
});

export async function stdio({ binary, folder, tally }) {
  const told = [];
  const only = process.env.STDIO_RUNS?.split(',');
  const issuer = await Issuer.start();
  for (const { era, revision, also } of RUNS) {
    if (only && !only.includes(`${era}@${revision}`)) continue;
    const command = [process.execPath, beside('fixture.mjs'), 'stdio', `--${era}`];
    const proxy = await startProxy({ binary, folder, command, issuer: issuer.url, audience: AUDIENCE });
    const run = (args) => verdicts(folder, ['server', '--url', proxy.url, ...args], bearing(issuer.token(AUDIENCE), proxy.url));
    try {
      const counted = await scored(revision);
      const cannot = CANNOT[`${era} ${revision}`] ?? {};
      const found = await run(['--requirements', revision]);
      console.log(row(`a program of the era ${era} at ${revision}`, '', 'bridge', 'checks passed/failed'));
      let green = 0;
      for (const name of new Set([...counted, ...also])) {
        let verdict = found.get(name);
        let tries = 1;
        for (; !verdict?.green && !(name in cannot) && tries < TRIES; tries += 1) {
          verdict = (await run(['--scenario', name, '--spec-version', revision, '--force'])).get(name);
        }
        const notes = [];
        if (!counted.includes(name)) notes.push('not scored');
        if (tries > 1) notes.push(`${tries} tries`);
        if (name in cannot) notes.push(cannot[name]);
        console.log(row(`  ${name}`, '', verdict?.told ?? '-', notes.join(', ')));
        if (counted.includes(name)) green += Number(verdict?.green ?? false);
        const holds = (name in cannot ? verdict?.red : verdict?.green) ?? false;
        tally.holds(`${name} at ${revision} with a program of the era ${era}`, holds, verdict?.reasons ?? ['not run']);
      }
      told.push(`${era} ${revision} ${green}/${counted.length}`);
    } finally {
      await proxy.stop();
    }
  }
  await issuer.stop();
  return told.join('; ');
}
