// Runs named checks one after another and counts what came of them.

const SECONDS_PER_CHECK = 15;

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

// The address of the program, HOST:PORT, from the command line.
export function target() {
  const address = process.argv[2];
  if (!address?.includes(":")) {
    console.error("usage: node SCRIPT HOST:PORT");
    process.exit(2);
  }
  return address;
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
