"""Names checks, runs them one after another and counts what came of them."""

import asyncio
import traceback
from dataclasses import dataclass

# Long enough for the heaviest check on a busy two-core machine, short enough that a hang shows soon.
SECONDS_PER_CHECK = 15

# What `sockeye serve --compression` takes.
POLICIES = ("dedicated", "shared", "off")
# Those with which the program agrees to compression.
COMPRESSING = ("dedicated", "shared")

_checks = []


@dataclass(frozen=True)
class Target:
    """The program under test."""

    host: str
    port: int
    # How it compresses.
    policy: str
    # Where the program is, to start another one.
    program: str

    @property
    def authority(self):
        return f"{self.host}:{self.port}"

    @property
    def echo(self):
        return f"ws://{self.authority}/echo"


def check(name, policies=POLICIES):
    """Registers an async function, called with the Target, as the check of this name.

    It runs only against a program that compresses in one of these ways.
    """

    def register(function):
        _checks.append((name, policies, function))
        return function

    return register


def equal(actual, expected, what):
    """Fails the check with a message that stays short however large the two values are."""
    if actual != expected:
        raise AssertionError(f"{what}: expected {_short(expected)}, got {_short(actual)}")


def _short(value):
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:60]}... ({len(value)} long)"


async def run_all(target):
    """Runs the checks that are for this target; returns how many passed and how many failed."""
    mine = [(name, function) for name, policies, function in _checks if target.policy in policies]
    failed = 0
    for name, function in mine:
        try:
            async with asyncio.timeout(SECONDS_PER_CHECK):
                await function(target)
        except Exception as error:
            failed += 1
            print(f"FAIL {name}: {_reason(error)}", flush=True)
        else:
            print(f"ok   {name}", flush=True)
    return len(mine) - failed, failed


def _reason(error):
    if isinstance(error, ExceptionGroup):
        # A group's own message only counts what is in it.
        return _reason(error.exceptions[0])
    if isinstance(error, AssertionError):
        return str(error)
    return traceback.format_exception_only(error)[-1].strip()
