"""A tap between a library and the program: relays the bytes and keeps them, to see the frames."""

import asyncio
import contextlib
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Seen:
    """A frame on the wire."""

    fin: bool
    rsv: int
    opcode: int
    # Bytes of the payload.
    length: int


class Tap:
    def __init__(self):
        self._sent = bytearray()
        self._received = bytearray()

    @property
    def sent(self):
        """All frames of the client."""
        return frames(self._sent)

    @property
    def received(self):
        """All frames of the program."""
        return frames(self._received)

    async def relay(self, target, reader, writer):
        up_reader, up_writer = await asyncio.open_connection(target.host, target.port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pump(reader, up_writer, self._sent))
                group.create_task(_pump(up_reader, writer, self._received))
        except* ConnectionError:
            # How it ends is for the two ends to judge.
            pass
        finally:
            up_writer.transport.abort()
            writer.transport.abort()


@contextlib.asynccontextmanager
async def tapped(target):
    """The target, to be reached through a tap, and the tap; for one connection."""
    tap = Tap()
    listener = await asyncio.start_server(
        lambda reader, writer: tap.relay(target, reader, writer), "127.0.0.1", 0
    )
    port = listener.sockets[0].getsockname()[1]
    try:
        yield replace(target, host="127.0.0.1", port=port), tap
    finally:
        listener.close()


async def _pump(reader, writer, kept):
    while data := await reader.read(65536):
        kept += data
        writer.write(data)
        await writer.drain()
    writer.write_eof()


def frames(data):
    """The whole frames behind the head of the handshake."""
    found = []
    at = data.index(b"\r\n\r\n") + 4
    while at + 2 <= len(data):
        first, second = data[at], data[at + 1]
        length, at = second & 0x7F, at + 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        at += length + (4 if second & 0x80 else 0)
        if at <= len(data):
            found.append(Seen(bool(first & 0x80), first >> 4 & 7, first & 0x0F, length))
    return found
