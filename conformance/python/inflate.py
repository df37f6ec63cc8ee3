"""Compressed messages to the program: odd but right ones, and what the protocol forbids.

The hexadecimal ones of the first checks are the examples of RFC 7692 section 7.2.3.
"""

import asyncio
import zlib

from harness import COMPRESSING, check, equal
from squeezed import NAME, OFFER, TAIL, digits, fragments, noise, prose, squeezed
from violations import MAX_MESSAGE, PENDING
from wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    TEXT,
    frame,
)

HELLO = bytes.fromhex("f2 48 cd c9 c9 07 00")
# The same, as a reference to it.
REFERENCE = bytes.fromhex("f2 00 11 00 00")
# An empty block at the end of a stream, in two bytes.
FINAL_BLOCK = b"\x03\x00"


def taken(name, payload, message):
    @check(f"inflate: {name}", COMPRESSING)
    async def is_taken(target):
        async with squeezed(target) as deflated:
            # Each is complete in itself, so that the second may follow the first.
            for _ in range(2):
                await deflated.wire.send(frame(TEXT, payload, rsv=RSV1))
                await deflated.echoed(TEXT, message)
            await deflated.wire.send(frame(TEXT, message))
            await deflated.echoed(TEXT, message)


def finished(*parts):
    """Streams that end with a final block each, one behind the other."""
    streams = []
    for part in parts:
        stream = zlib.compressobj(wbits=-15)
        streams.append(stream.compress(part) + stream.flush(zlib.Z_FINISH))
    return b"".join(streams)


taken("one block", HELLO, b"Hello")
taken("a block that is stored as it is", b"\x00\x05\x00\xfa\xff" + b"Hello\x00", b"Hello")
taken("a final block", bytes.fromhex("f3 48 cd c9 c9 07 00 00"), b"Hello")
# Nothing is missing from these two, though there should be a byte 0x00.
taken("a final block and nothing behind it", bytes.fromhex("f3 48 cd c9 c9 07 00"), b"Hello")
taken("an empty message of no bytes", b"", b"")
taken("two blocks", bytes.fromhex("f2 48 05 00 00 00 ff ff ca c9 c9 07 00"), b"Hello")
taken("an empty message of one byte 0x00", b"\x00", b"")
taken("an empty message of five empty blocks", TAIL.join([b"\x00"] * 5), b"")
taken("blocks behind final blocks", finished(b"one ", b"two ") + HELLO, b"one two Hello")
taken("final blocks at the end", finished(prose(3000), b"on") + b"\x00", prose(3000) + b"on")
taken("a hundred final blocks", FINAL_BLOCK * 100 + b"\x00", b"")
taken("dynamic codes", finished(prose(9000)) + b"\x00", prose(9000))


@check("inflate: a reference to the message before", ("dedicated",))
async def reference(target):
    async with squeezed(target) as deflated:
        for payload in (HELLO, REFERENCE):
            await deflated.wire.send(frame(TEXT, payload, rsv=RSV1))
            await deflated.echoed(TEXT, b"Hello")


@check("inflate: a window outlives final blocks and empty messages", ("dedicated",))
async def window_outlives(target):
    async with squeezed(target) as deflated:
        for payload, message in (
            (HELLO, b"Hello"),
            (FINAL_BLOCK + b"\x00", b""),
            (b"\x00", b""),
            (REFERENCE, b"Hello"),
        ):
            await deflated.wire.send(frame(TEXT, payload, rsv=RSV1))
            await deflated.echoed(TEXT, message)


@check("inflate: fragments, of which only the first has RSV1", COMPRESSING)
async def in_fragments(target):
    async with squeezed(target) as deflated:
        for payload in (HELLO[:3], b"", HELLO[3:]):
            first, last = payload == HELLO[:3], payload == HELLO[3:]
            opcode, rsv = (TEXT, RSV1) if first else (CONTINUATION, 0)
            await deflated.wire.send(frame(opcode, payload, fin=last, rsv=rsv))
        await deflated.echoed(TEXT, b"Hello")


@check("inflate: pings between the fragments of a compressed message", COMPRESSING)
async def pings_between(target):
    async with squeezed(target) as deflated:
        for round in range(2):
            message = prose(20_000, seed=round)
            *pieces, last = fragments(deflated.compress(message), TEXT, 500)
            for number, piece in enumerate(pieces):
                asked = f"after {number}".encode()
                await deflated.wire.send(piece + frame(PING, asked))
                await deflated.wire.expect(PONG, asked)
            await deflated.wire.send(last)
            await deflated.echoed(TEXT, message)


@check("inflate: a message in thousands of fragments of one byte", COMPRESSING)
async def single_bytes(target):
    async with squeezed(target) as deflated:
        message = prose(30_000)
        deflated.wire.send_later(b"".join(fragments(deflated.compress(message), BINARY, 1)))
        await deflated.echoed(BINARY, message)


@check("inflate: one frame that arrives byte by byte", COMPRESSING)
async def byte_by_byte(target):
    async with squeezed(target) as deflated:
        message = "é\U0001f9a6".encode() * 40
        for byte in frame(TEXT, deflated.compress(message), rsv=RSV1):
            await deflated.wire.send(bytes([byte]))
            # Lets each byte leave as a segment of its own.
            await asyncio.sleep(0.005)
        await deflated.echoed(TEXT, message)


@check("inflate: compressed and uncompressed messages in turn", COMPRESSING)
async def in_turn(target):
    async with squeezed(target) as deflated:
        for round in range(50):
            message = prose(100 * round, seed=round % 5)
            # What travels as it is leaves no trace in the window.
            for plain in (noise(200, seed=round), message):
                await deflated.wire.send(frame(BINARY, plain))
                await deflated.echoed(BINARY, plain)
            await deflated.send(TEXT, message)
            await deflated.echoed(TEXT, message)


@check("inflate: a client with a small window", COMPRESSING)
async def small_window(target):
    async with squeezed(target, f"{NAME}; client_max_window_bits=9") as deflated:
        for round in range(20):
            message = digits(400, seed=round // 2) * 5
            await deflated.send(TEXT, message)
            await deflated.echoed(TEXT, message)


@check("inflate: a million zeros", COMPRESSING)
async def million_zeros(target):
    async with squeezed(target) as deflated:
        message = bytes(1_000_000)
        payload = deflated.compress(message)
        equal(len(payload) < 1100, True, f"{len(payload)} bytes, are they few")
        await deflated.wire.send(frame(BINARY, payload, rsv=RSV1))
        await deflated.echoed(BINARY, message)


@check("inflate: a message of exactly the maximum is echoed", COMPRESSING)
async def largest_message(target):
    async with squeezed(target) as deflated:
        message = bytes(MAX_MESSAGE)
        await deflated.send(BINARY, message)
        await deflated.echoed(BINARY, message)


@check("inflate: noise of exactly the maximum is echoed, though longer on the wire", COMPRESSING)
async def largest_noise(target):
    async with squeezed(target) as deflated:
        message = noise(MAX_MESSAGE)
        payload = deflated.compress(message)
        equal(len(payload) > MAX_MESSAGE, True, f"{len(payload)} bytes, are they more")
        await deflated.wire.send(frame(BINARY, payload, rsv=RSV1))
        await deflated.echoed(BINARY, message)


@check("inflate: one byte more is closed with 1009", COMPRESSING)
async def one_byte_more(target):
    async with squeezed(target) as deflated:
        await deflated.send(BINARY, bytes(MAX_MESSAGE + 1))
        deflated.wire.send_later(PENDING)
        await deflated.wire.expect_close(1009)


def violation(name, code, *frames, policies=COMPRESSING, offer=OFFER):
    @check(f"compressed: {name} is closed with {code}", policies)
    async def violated(target):
        async with squeezed(target, offer) as deflated:
            deflated.wire.send_later(b"".join(frames) + PENDING)
            await deflated.wire.expect_close(code)


def garbage(name, payload, *, opcode=TEXT, code=1007, **options):
    violation(name, code, frame(opcode, payload, rsv=RSV1), **options)


violation(
    "RSV1 on a continuation",
    1002,
    frame(TEXT, HELLO[:3], fin=False, rsv=RSV1),
    frame(CONTINUATION, HELLO[3:], rsv=RSV1),
)
violation(
    "RSV1 only on a continuation",
    1002,
    frame(TEXT, b"Hel", fin=False),
    frame(CONTINUATION, HELLO[3:], rsv=RSV1),
)
for name, opcode, payload in (
    ("ping", PING, HELLO),
    ("pong", PONG, HELLO),
    ("close frame", CLOSE, (1000).to_bytes(2, "big")),
):
    violation(f"RSV1 on a {name}", 1002, frame(opcode, payload, rsv=RSV1))
for bit, rsv in (("RSV2", 2), ("RSV3", 1)):
    violation(f"{bit} beside RSV1", 1002, frame(TEXT, HELLO, rsv=RSV1 | rsv))
    violation(f"{bit} without RSV1", 1002, frame(TEXT, b"Hello", rsv=rsv))

garbage("a block of the type that is reserved", b"\xff\xff\xff\xff")
garbage("what is not compressed", noise(300), opcode=BINARY)
garbage("a message that breaks off", HELLO[:4])
garbage("a stored block whose length contradicts itself", b"\x00\x05\x00\x00\x00Hello\x00")
garbage("a stored block that is longer than the message", b"\x00\xff\x00\x00\xffHello\x00")
garbage("a reference to before the first message", REFERENCE)
garbage("text that is not UTF-8", zlib.compress(b"\xc0\xaf", wbits=-15) + b"\x00")
garbage(
    "text that ends within a character",
    zlib.compress(prose(1000) + b"\xe2\x82", wbits=-15) + b"\x00",
)
garbage("a flood of final blocks", FINAL_BLOCK * 100_000 + b"\x00", code=1008)


def forgotten(name, policies, offer):
    @check(f"compressed: a reference to a message before is closed with 1007 {name}", policies)
    async def is_forgotten(target):
        async with squeezed(target, offer) as deflated:
            await deflated.wire.send(frame(TEXT, HELLO, rsv=RSV1))
            await deflated.echoed(TEXT, b"Hello")
            deflated.wire.send_later(frame(TEXT, REFERENCE, rsv=RSV1) + PENDING)
            await deflated.wire.expect_close(1007)


forgotten("where none holds a window", ("shared",), OFFER)
forgotten(
    "after client_no_context_takeover", ("dedicated",), f"{NAME}; client_no_context_takeover"
)
