// Runs named checks one after another and counts what came of them.

const SECONDS_PER_CHECK = 15;
// What `sockeye serve --compression` takes.
const POLICIES = ["dedicated", "shared", "off"];

let passed = 0;
let failed = 0;

export async function check(name, body) {
  try {
    await withTimeout(body());
    passed += 1;
    console.log(`ok   ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${name}: ${inOneLine(error)}`);
  }
}

// Prints the totals and ends the process: a socket a failed check left open must not keep it alive.
export function finish(stranger) {
  console.log(`${stranger}: ${passed} passed, ${failed} failed`);
  process.exit(failed ? 1 : 0);
}

// What the command line says: where the program listens, as HOST:PORT, how it compresses, and what
// to call these checks.
export function target() {
  const [address, policy, name] = process.argv.slice(2);
  if (!address?.includes(":") || !POLICIES.includes(policy) || !name) {
    console.error(`usage: node SCRIPT HOST:PORT ${POLICIES.join("|")} NAME`);
    process.exit(2);
  }
  return { address, policy, name };
}

function withTimeout(promise) {
  let timer;
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(
      () => reject(new Error(`no result in ${SECONDS_PER_CHECK} s`)),
      SECONDS_PER_CHECK * 1000,
    );
  });
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer));
}

function inOneLine(error) {
  return String(error?.message ?? error).replace(/\s+/g, " ").slice(0, 200);
}
