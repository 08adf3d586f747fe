// Runs scenarios of the official suite and reads its verdicts, check by check, from the files that it writes.

import { mkdtempSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { runSuite } from './programs.mjs';

/** Directories are called `server-<scenario>-<time>` and `authorization-server-<scenario>-<time>`, or without the role. */
const DIRECTORY = /^(?:server-|client-|authorization-server-(?=authorization-))?(.+)-\d{4}-\d{2}-\d{2}T[\d-]+Z$/;

/** A line of a table. */
export const row = (what, direct, proxy, note = '') =>
  `${what.padEnd(50)}${direct.padStart(8)}${proxy.padStart(8)}   ${note}`.trimEnd();

/** One scenario's verdicts. */
class Verdicts {
  /** `text` is what the suite wrote: the verdicts, and what was sent and received. */
  constructor(text) {
    this.text = text;
    // What is only told carries times and ids, and is no verdict.
    this.checks = JSON.parse(text).filter(({ status }) => status !== 'INFO');
  }

  #count(...statuses) {
    return this.checks.filter(({ status }) => statuses.includes(status)).length;
  }

  get passed() {
    return this.#count('SUCCESS');
  }

  /** A warning is a SHOULD that was not met, which the suite counts as failed too. */
  get failed() {
    return this.#count('FAILURE', 'WARNING');
  }

  get green() {
    return this.failed === 0 && this.checks.length > 0;
  }

  /** That nothing was checked is neither green nor this. */
  get red() {
    return this.failed > 0;
  }

  get told() {
    return `${this.passed}/${this.failed}`;
  }

  same(other) {
    const lines = ({ checks }) => checks.map(({ id, name, status }) => `${id} ${name} ${status}`).sort().join('\n');
    return this.checks.length > 0 && lines(this) === lines(other);
  }

  /** Whether the same was found, however often: a proxy that refuses by itself spares its server some requests. */
  alike(other) {
    const lines = ({ checks }) => [...new Set(checks.map(({ id, status }) => `${id} ${status}`))].sort().join('\n');
    return this.checks.length > 0 && lines(this) === lines(other);
  }

  /** Why it is not green. */
  get reasons() {
    if (this.checks.length === 0) return ['the suite checked nothing'];
    const wrong = this.checks.filter(({ status }) => status === 'FAILURE' || status === 'WARNING');
    return wrong.map(({ id, errorMessage }) => `${id}: ${errorMessage}`);
  }
}

/** Runs the suite with these arguments, and gives the verdicts by scenario. */
export async function verdicts(folder, args, env, watch) {
  const out = mkdtempSync(join(folder, 'verdicts-'));
  const { output } = await runSuite([...args, '-o', out], env, watch);
  const found = new Map();
  for (const directory of readdirSync(out, { recursive: true })) {
    if (!directory.endsWith('checks.json')) continue;
    const name = DIRECTORY.exec(directory.slice(0, -'/checks.json'.length))?.[1];
    if (name === undefined) throw new Error(`the suite wrote ${directory}, which names no scenario`);
    found.set(name, new Verdicts(readFileSync(join(out, directory), 'utf8')));
  }
  if (found.size === 0) throw new Error(`the suite judged nothing:\n${output.slice(-3000)}`);
  return found;
}

/** The scenarios that a requirement set scores, as the suite lists them. */
export async function scored(revision, role = 'Server') {
  const { output } = await runSuite(['list', '--requirements', revision]);
  const section = new RegExp(`${role} scenarios[^\\n]*\\n((?: +- [^\\n]+\\n)+)`).exec(output);
  if (section === null) throw new Error(`the suite lists no ${role} scenarios for ${revision}:\n${output}`);
  return section[1].match(/[\w/-]+$/gm);
}

/** All scenarios of a role that the suite has. */
export async function scenarios(role) {
  const { output } = await runSuite(['list', `--${role}`]);
  const names = [...output.matchAll(/^ +- ([\w/-]+)/gm)].map(([, name]) => name);
  if (names.length === 0) throw new Error(`the suite lists no ${role} scenarios:\n${output}`);
  return names;
}
