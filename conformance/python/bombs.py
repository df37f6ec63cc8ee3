"""Small messages that inflate to a thousand times their size: what they cost a fresh program."""

import asyncio
import contextlib
import os
import zlib
from dataclasses import replace
from pathlib import Path

from harness import COMPRESSING, check, equal
from squeezed import squeezed
from violations import MAX_MESSAGE, MIB
from wire import BINARY, CONTINUATION, RSV1, frame

BOMBS = 20


def bomb(mebibytes):
    """So many MiB of zeros, compressed. No part refers to another, so one does for all."""
    part = zlib.compressobj(level=9, wbits=-15)
    return (part.compress(bytes(MIB)) + part.flush(zlib.Z_FULL_FLUSH)) * mebibytes + b"\x00"


@check("bomb: 1 GiB in 1 MB is closed with 1009, and costs less than two messages", COMPRESSING)
async def whole(target):
    await costs_little(target, [frame(BINARY, bomb(1024), rsv=RSV1)])


@check("bomb: in fragments it costs no more", COMPRESSING)
async def in_fragments(target):
    payload = bomb(1024)
    first, second = payload[:400_000], payload[400_000:]
    head = frame(BINARY, first, fin=False, rsv=RSV1)
    await costs_little(target, [head, frame(CONTINUATION, second)])


async def costs_little(target, frames):
    async with another(target) as (pid, target):
        async with squeezed(target) as deflated:
            await deflated.send(BINARY, bytes(1000))
            await deflated.echoed(BINARY, bytes(1000))
        before = memory(pid, "VmHWM")
        for _ in range(BOMBS):
            async with squeezed(target) as deflated:
                deflated.wire.send_later(b"".join(frames))
                await deflated.wire.expect_close(1009)
        grown = memory(pid, "VmHWM") - before
        print(f"grew by {grown >> 10} KiB at most, with messages up to {MAX_MESSAGE >> 10} KiB")
        equal(grown < 2 * MAX_MESSAGE, True, f"grew by {grown} bytes, is that little")
        # Nobody else noticed.
        async with squeezed(target) as deflated:
            await deflated.send(BINARY, bytes(1000))
            await deflated.echoed(BINARY, bytes(1000))


@contextlib.asynccontextmanager
async def another(target):
    """A program that has done nothing yet: its process, and where it listens."""
    program = await asyncio.create_subprocess_exec(
        target.program, "serve", "--listen", "127.0.0.1:0", "--max-message", f"{MAX_MESSAGE}B",
        "--compression", target.policy,
        # Each further thread may keep what one bomb has taken, for the next.
        env=os.environ | {"TOKIO_WORKER_THREADS": "1"},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        line = (await program.stdout.readline()).decode()
        port = int(line.rpartition(":")[2])
        yield program.pid, replace(target, host="127.0.0.1", port=port)
        equal(program.returncode, None, "exit code")
    finally:
        with contextlib.suppress(ProcessLookupError):
            program.kill()
        await program.wait()


def memory(pid, name):
    """A figure of the process in bytes, such as VmHWM: the most it ever had at a time."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [line] = [line for line in lines if line.startswith(f"{name}:")]
    return int(line.split()[1]) << 10
