"""Runs the checks of this folder against a running program."""

import argparse
import asyncio
import sys

# Importing these registers their checks, in this order.
import handshakes  # noqa: F401
import messages  # noqa: F401
import frames  # noqa: F401
import violations  # noqa: F401
import offers  # noqa: F401
import deflate  # noqa: F401
import inflate  # noqa: F401
import bombs  # noqa: F401
import compressed  # noqa: F401
import load  # noqa: F401
from harness import POLICIES, Target, run_all


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="where the program listens, as HOST:PORT")
    parser.add_argument("--policy", choices=POLICIES, required=True, help="how it compresses")
    parser.add_argument("--program", required=True, help="where it is, to start another one")
    parser.add_argument("--name", required=True, help="what conformance/run calls these checks")
    arguments = parser.parse_args()
    host, _, port = arguments.address.rpartition(":")
    target = Target(host, int(port), arguments.policy, arguments.program)
    passed, failed = asyncio.run(run_all(target))
    print(f"{arguments.name}: {passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
