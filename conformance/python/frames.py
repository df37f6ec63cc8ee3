"""Sound exchanges that need single frames under control, which the library does not give."""

import asyncio

from harness import check
from wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    echoes,
    frame,
    opened,
)

MAX_MESSAGE = 16 << 20


@check("frames: pings between fragments are answered before the message ends")
async def ping_between_fragments(target):
    async with opened(target) as wire:
        await wire.send(frame(TEXT, b"one", fin=False))
        await wire.send(frame(PING, b"first"))
        await wire.expect(PONG, b"first")
        await wire.send(frame(CONTINUATION, b" two", fin=False) + frame(PING, b"second"))
        await wire.expect(PONG, b"second")
        await wire.send(frame(CONTINUATION, b" three"))
        await wire.expect(TEXT, b"one two three")


@check("frames: pongs carry exactly what their pings did")
async def pong_payloads(target):
    async with opened(target) as wire:
        for payload in (b"", b"\x00\xff", bytes(range(125))):
            await wire.send(frame(PING, payload))
            await wire.expect(PONG, payload)


@check("frames: an unasked pong gets no answer")
async def unasked_pong(target):
    async with opened(target) as wire:
        await wire.send(frame(PONG, b"nobody asked"))
        await echoes(wire)


@check("frames: one frame that arrives byte by byte")
async def byte_by_byte(target):
    async with opened(target) as wire:
        for byte in frame(TEXT, "é\U0001f9a6".encode()):
            await wire.send(bytes([byte]))
            # Lets each byte leave as a segment of its own.
            await asyncio.sleep(0.005)
        await wire.expect(TEXT, "é\U0001f9a6".encode())


@check("frames: a message of exactly the maximum is echoed")
async def largest_message(target):
    async with opened(target) as wire:
        message = bytes(MAX_MESSAGE)
        await wire.send(frame(BINARY, message))
        await wire.expect(BINARY, message)


@check("close: without a code is answered without one")
async def close_without_code(target):
    async with opened(target) as wire:
        await wire.send(frame(CLOSE))
        await wire.expect_close(None)


@check("close: the program ends the TCP connection first, with EOF")
async def program_ends_tcp(target):
    async with opened(target) as wire:
        await wire.send(frame(CLOSE, (1000).to_bytes(2, "big")))
        await wire.expect_close(1000)


@check("close: what was sent before it is still echoed")
async def echo_before_close(target):
    async with opened(target) as wire:
        await wire.send(frame(TEXT, b"last words") + frame(CLOSE, (4000).to_bytes(2, "big")))
        await wire.expect(TEXT, b"last words")
        await wire.expect_close(4000)


@check("close: what is sent after it is not echoed")
async def silence_after_close(target):
    async with opened(target) as wire:
        await wire.send(frame(CLOSE, (1000).to_bytes(2, "big")) + frame(TEXT, b"too late"))
        await wire.expect_close(1000)
