// The official conformance suite against the fixture, directly and through the proxy, and what else belongs to it.
//
//   node suite.mjs PROXY FOLDER [part…]      parts: servers, guards, clients, auth, relay, audience, stdio; all of them without a word
//
// Each part prints a table and one closing line; the last line is the total. The exit code is 1 where anything failed.

import { audience } from './audience.mjs';
import { auth } from './auth.mjs';
import { clients } from './clients.mjs';
import { relay } from './relay.mjs';
import { guards, servers } from './servers.mjs';
import { stdio } from './stdio.mjs';

const [binary, folder, ...chosen] = process.argv.slice(2);
const parts = { servers, guards, clients, auth, relay, audience, stdio };

/** Counts what a part finds. */
class Tally {
  passed = 0;
  failed = 0;

  /** One thing that must hold. */
  holds(what, ok, why = []) {
    if (ok) this.passed += 1;
    else {
      this.failed += 1;
      console.log([`FAIL ${what}`, ...why.map((line) => `     ${line}`)].join('\n'));
    }
  }

  add(other) {
    this.passed += other.passed;
    this.failed += other.failed;
  }

  get all() {
    return this.passed + this.failed;
  }
}

const total = new Tally();
for (const [name, part] of Object.entries(parts)) {
  if (chosen.length > 0 && !chosen.includes(name)) continue;
  const began = Date.now();
  const tally = new Tally();
  let closing;
  try {
    closing = await part({ binary, folder, tally });
  } catch (err) {
    tally.holds(name, false, [err.stack]);
    closing = 'did not come to its end';
  }
  const seconds = ((Date.now() - began) / 1000).toFixed(1);
  console.log(`${name}: ${closing}: ${tally.passed} of ${tally.all} hold (${seconds} s)\n`);
  total.add(tally);
}
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exit(total.failed === 0 && total.passed > 0 ? 0 : 1);
