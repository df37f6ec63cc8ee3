"""Frames and a WebSocket client by hand, for what a well-behaved library refuses to send."""

import asyncio
import base64
import hashlib
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass

from harness import equal

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

# As the argument `rsv`: the message is compressed (RFC 7692 section 6).
RSV1 = 4

# How long the program may take to answer, and to end the TCP connection once it has said close.
ANSWER_SECONDS = 5

_KEY = base64.b64encode(b"the sample nonce").decode()


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict


@dataclass(frozen=True)
class Frame:
    fin: bool
    rsv: int
    opcode: int
    payload: bytes


def handshake(target, method="GET", **changes):
    """The bytes of an opening handshake.

    `changes` sets headers (underscores stand for hyphens); None leaves a header out.
    """
    headers = {
        "Host": target.authority,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": _KEY,
    }
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"{method} /echo HTTP/1.1", *lines, "", ""]).encode()


def accept_key(key):
    """What a server answers to this `Sec-WebSocket-Key` (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    return base64.b64encode(digest).decode()


def frame(opcode, payload=b"", *, fin=True, rsv=0, masked=True, length_bytes=None, announced=None):
    """The bytes of one frame.

    `length_bytes` (0, 2 or 8) forces how the length is written, `announced` the length itself.
    """
    length = len(payload) if announced is None else announced
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 0x10000 else 8
    short = {0: length, 2: 126, 8: 127}[length_bytes]
    head = bytes([fin << 7 | rsv << 4 | opcode, masked << 7 | short])
    if length_bytes:
        head += length.to_bytes(length_bytes, "big")
    if not masked:
        return head + payload
    key = os.urandom(4)
    return head + key + mask(payload, key)


def mask(payload, key):
    size = len(payload)
    pad = (key * (size // 4 + 1))[:size]
    # One exclusive-or of two big integers: masking 16 MiB byte by byte would take seconds.
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")).to_bytes(size, "big")


class Wire:
    """One TCP connection to the program, spoken to in bytes and frames."""

    def __init__(self, reader, writer):
        self._reader = reader
        self._writer = writer

    async def send(self, data):
        self._writer.write(data)
        await self._writer.drain()

    def send_later(self, data):
        """Sends without waiting for the program to read, which it may never do."""
        self._writer.write(data)

    async def response(self):
        async with asyncio.timeout(ANSWER_SECONDS):
            head = await self._reader.readuntil(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        headers = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return Response(int(status_line.split(" ")[1]), headers)

    async def frame(self, allowed_rsv=0):
        async with asyncio.timeout(ANSWER_SECONDS):
            first, second = await self._read(2)
            rsv = first >> 4 & 7
            equal(rsv & ~allowed_rsv, 0, "RSV bits of a frame from the server")
            equal(second & 0x80, 0, "mask bit of a frame from the server")
            length = second & 0x7F
            if length >= 126:
                length = int.from_bytes(await self._read(2 if length == 126 else 8), "big")
            return Frame(bool(first & 0x80), rsv, first & 0x0F, await self._read(length))

    async def expect(self, opcode, payload):
        """The next frame is a whole one of this opcode and payload."""
        got = await self.frame()
        equal((got.fin, got.opcode), (True, opcode), "FIN and opcode")
        equal(got.payload, payload, "payload")

    async def expect_close(self, code):
        """The next frame is a close with this code (None: without one); then the stream ends."""
        got = await self.frame()
        equal((got.fin, got.opcode), (True, CLOSE), "FIN and opcode")
        actual = int.from_bytes(got.payload[:2], "big") if got.payload else None
        equal(actual, code, "close code")
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                equal(await self._reader.read(), b"", "bytes after the close frame")
        except TimeoutError:
            raise AssertionError("the TCP connection stayed open after the close frame") from None

    async def _read(self, size):
        try:
            return await self._reader.readexactly(size)
        except asyncio.IncompleteReadError:
            raise AssertionError("the stream ended where a frame was expected") from None


@asynccontextmanager
async def tcp(target):
    """A TCP connection on which nothing has been said yet."""
    reader, writer = await asyncio.open_connection(target.host, target.port)
    try:
        yield Wire(reader, writer)
    finally:
        # Not close(): that waits until everything queued is sent, and some checks queue in vain.
        writer.transport.abort()


@asynccontextmanager
async def opened(target, **changes):
    """A connection whose opening handshake has succeeded."""
    async with tcp(target) as wire:
        await wire.send(handshake(target, **changes))
        await expect_switch(wire)
        yield wire


async def expect_switch(wire):
    response = await wire.response()
    equal(response.status, 101, "status")
    equal(response.headers.get("upgrade", "").lower(), "websocket", "Upgrade")
    equal(response.headers.get("connection", "").lower(), "upgrade", "Connection")
    equal(response.headers.get("sec-websocket-accept"), accept_key(_KEY), "Sec-WebSocket-Accept")
    return response


async def echoes(wire):
    """The connection works: a text message comes back."""
    await wire.send(frame(TEXT, b"still here"))
    await wire.expect(TEXT, b"still here")
