// The client scenarios about authorization: the suite's mock servers judge what an official client asks for and shows,
// which is what it was told: without the proxy, with the proxy as the protected resource, and with its login relay before
// the authorization server besides.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beside } from './programs.mjs';
import { row, scenarios, scored, verdicts } from './scenarios.mjs';

const TRIES = 3;
/** Scenarios that are under way at one time; each is a few programs that mostly wait. */
const AT_ONCE = 4;

const EXTENSIONS = [
  'auth/client-credentials-jwt',
  'auth/client-credentials-basic',
  'auth/enterprise-managed-authorization',
  'auth/wif-jwt-bearer',
];

/** MCP 2025-03-26: without the proxy the mock server is the authorization server, and with it that is behind the relay. */
const OLD = {
  'auth/2025-03-26-oauth-metadata-backcompat': 'advertised',
  // Nothing describes the endpoints but the revision itself.
  'auth/2025-03-26-oauth-endpoint-fallback': 'described',
};

/** Scenarios that are not run, and why. */
const CANNOT = {
  'auth/dpop': 'the proxy takes bearer tokens only, and says so in its metadata and challenges',
  'auth/dpop-nonce': 'as auth/dpop',
};

/** What the relay is not for: through it these scenarios must fail, for this reason. */
const NOT_RELAYED = {
  'auth/iss-supported': 'the answer names the authorization server behind the relay, and the client refuses it',
  'auth/iss-supported-missing': 'the relay does not promise an iss, since it would not be its own, so none is missed',
  'auth/authorization-server-migration': 'to the client the relay is one authorization server, whoever is behind it',
  'auth/client-credentials-jwt': 'the assertion is for the relay; its metadata does not offer private_key_jwt',
  'auth/enterprise-managed-authorization': 'the grant is for the relay, and is refused behind it',
};

/** Scenarios in which the client compares `iss`; in the others through the relay it is one that does not know it. */
const LOOKS_AT_ISS = (name) => name.startsWith('auth/iss-');

/** What must hold of a run through the proxy, besides the suite's verdicts. */
function watched(report, { old, relayed }) {
  const { log, tokens, issued } = report;
  const line = (pattern) => new RegExp(`info request ${pattern}`).test(log);
  return {
    'the proxy refuses the first request': line('method=POST path=/mcp status=401 decision=refused'),
    'the client reads the metadata of the proxy': old || line('method=GET path=/.well-known/oauth-protected-resource\\S* status=200'),
    'the login goes through the relay': !relayed || line('method=(GET|POST) path=/(authorize|token|register) '),
    'no token goes on': tokens === 0,
    'no token stands in the log': issued.every(({ token }) => !log.includes(token)),
  };
}

export async function auth({ binary, folder, tally }) {
  let runs = 0;
  const run = async (name, revision, program, settings = {}) => {
    runs += 1;
    const report = join(folder, `splice-${runs}.json`);
    const env = { CONFORMANCE_PROXY: binary, CONFORMANCE_FOLDER: folder, CONFORMANCE_REPORT: report, ...settings };
    const command = `${process.execPath} ${beside(program)}`;
    const args = ['client', '--command', command, '--scenario', name, '--spec-version', revision, '--force'];
    const verdict = (await verdicts(folder, args, env)).get(name);
    return { verdict, report: () => JSON.parse(readFileSync(report, 'utf8')) };
  };

  const all = [
    ...(await scored('2025-11-25', 'Client')).map((name) => ({ name, revision: '2025-11-25', ways: ['resource'] })),
    ...[...(await scored('2026-07-28', 'Client')), ...EXTENSIONS].map((name) => {
      return { name, revision: '2026-07-28', ways: ['resource', 'relay'] };
    }),
    ...Object.keys(OLD).map((name) => ({ name, revision: '2025-03-26', ways: ['relay'] })),
  ].filter(({ name }) => name.startsWith('auth/'));
  const known = new Set([...all.map(({ name }) => name), ...Object.keys(CANNOT)]);
  const listed = (await scenarios('client')).filter((name) => name.startsWith('auth/'));
  tally.holds(`each of ${listed.length} scenarios is run or has a reason`, listed.length > 0 && listed.every((name) => known.has(name)));

  const settings = (name, way) => {
    if (way === 'resource') return {};
    return { CONFORMANCE_RELAY: OLD[name] ?? 'advertised', ...(LOOKS_AT_ISS(name) ? {} : { CONFORMANCE_BLIND: 'true' }) };
  };
  /** One scenario in all its ways, again where it comes out wrong: the mock servers and the client wait for each other. */
  const judged = async ({ name, revision, ways }) => {
    const came = { name, revision, found: {}, tries: 0 };
    const fits = (way) => {
      const { verdict } = came.found[way];
      return way === 'relay' && name in NOT_RELAYED ? verdict.red : verdict.green && verdict.alike(came.found.direct.verdict);
    };
    do {
      came.found.direct = await run(name, revision, 'login.mjs');
      for (const way of ways) came.found[way] = await run(name, revision, 'splice.mjs', settings(name, way));
      came.tries += 1;
    } while (!(came.found.direct.verdict.green && ways.every(fits)) && came.tries < TRIES);
    came.fits = fits;
    return came;
  };

  console.log(row('scenarios about authorization', 'direct', 'proxy', `${'relay'.padStart(5)}   checks passed/failed`));
  const green = { direct: 0, resource: 0, relay: 0 };
  const [of, sums] = [{ direct: 0, resource: 0, relay: 0 }, { direct: [0, 0], resource: [0, 0], relay: [0, 0] }];
  const show = ({ name, revision, found, tries, fits }) => {
    const told = (way) => found[way]?.verdict.told ?? '-';
    const notes = [];
    if (EXTENSIONS.includes(name)) notes.push('not scored: an extension');
    if (found.relay && name in NOT_RELAYED) notes.push(NOT_RELAYED[name]);
    if (tries > 1) notes.push(`${tries} tries`);
    console.log(row(`  ${name.slice('auth/'.length)} at ${revision}`, told('direct'), told('resource'), `${told('relay').padStart(5)}   ${notes.join(', ')}`));
    for (const [way, { verdict, report }] of Object.entries(found)) {
      const unfit = way === 'relay' && name in NOT_RELAYED;
      if (!unfit) {
        of[way] += 1;
        green[way] += Number(verdict.green);
        sums[way][0] += verdict.passed;
        sums[way][1] += verdict.failed;
      }
      const holds = way === 'direct' ? verdict.green : fits(way);
      const why = verdict.green ? [unfit ? 'it passes; take it out of NOT_RELAYED' : 'it differs from the direct one'] : verdict.reasons;
      tally.holds(`${name} at ${revision}, ${way}`, holds, why);
      if (way === 'direct') continue;
      const held = watched(report(), { old: name in OLD, relayed: way === 'relay' && name !== 'auth/resource-mismatch' });
      for (const [what, ok] of Object.entries(held)) tally.holds(`${what}: ${name} at ${revision}, ${way}`, ok);
    }
  };

  const waiting = [...all];
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) show(await judged(next));
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));

  for (const [name, why] of Object.entries(CANNOT)) console.log(row(`  ${name.slice('auth/'.length)}`, '-', '-', `${'-'.padStart(5)}   ${why}`));
  const sum = (way) => sums[way].join('/');
  console.log(row('  all of them', sum('direct'), sum('resource'), sum('relay').padStart(5)));
  const part = (way) => `${green[way]}/${of[way]}`;
  return `${part('direct')} direct, ${part('resource')} with the proxy as the resource, ${part('relay')} through its login relay`;
}
