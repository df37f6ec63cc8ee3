"""Runs the checks of this folder against a running program: check.py HOST:PORT"""

import asyncio
import sys

# Importing these registers their checks, in this order.
import handshakes  # noqa: F401
import messages  # noqa: F401
import frames  # noqa: F401
import violations  # noqa: F401
import load  # noqa: F401
from harness import Target, run_all


def main():
    if len(sys.argv) != 2 or ":" not in sys.argv[1]:
        sys.exit("usage: check.py HOST:PORT")
    host, _, port = sys.argv[1].rpartition(":")
    passed, failed = asyncio.run(run_all(Target(host, int(port))))
    print(f"python: {passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
