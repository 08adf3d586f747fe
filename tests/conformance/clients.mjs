// The client scenarios: the suite's mock server judges what a real client sends, without and with the proxy between.

import { Issuer } from './issuer.mjs';
import { AUDIENCE, beside } from './programs.mjs';
import { row, verdicts } from './scenarios.mjs';

const TRIES = 3;

const SCENARIOS = [
  'initialize',
  'tools_call',
  'elicitation-sep1034-client-defaults',
  'sse-retry',
  'request-metadata',
  'http-standard-headers',
  'http-custom-headers',
  'http-invalid-tool-headers',
  'sep-2322-client-request-state',
  'json-schema-2020-12-preservation',
];

export async function clients({ binary, folder, tally }) {
  const issuer = await Issuer.start();
  const spliced = {
    CONFORMANCE_PROXY: binary,
    CONFORMANCE_FOLDER: folder,
    CONFORMANCE_ISSUER: issuer.url,
    MCP_BEARER: issuer.token(AUDIENCE),
  };
  const run = async (name, program, env) => {
    const command = `${process.execPath} ${beside(program)}`;
    return (await verdicts(folder, ['client', '--command', command, '--scenario', name], env)).get(name);
  };

  console.log(row('client scenarios', 'direct', 'proxy', 'checks passed/failed'));
  let green = 0;
  for (const name of SCENARIOS) {
    let one, other;
    let tries = 0;
    do {
      [one, other] = [await run(name, 'client.mjs', {}), await run(name, 'wrap.mjs', spliced)];
      tries += 1;
    } while (!(one.green && one.same(other)) && tries < TRIES);
    console.log(row(`  ${name}`, one.told, other.told, tries > 1 ? `${tries} tries` : ''));
    const why = one.green ? other.reasons : one.reasons;
    tally.holds(`client scenario ${name}`, one.green && one.same(other), why);
    tally.holds(`the mock server of ${name} sees no token`, !other.text.includes(spliced.MCP_BEARER));
    green += Number(other.green);
  }
  await issuer.stop();
  return `${green}/${SCENARIOS.length} client scenarios through the proxy`;
}
