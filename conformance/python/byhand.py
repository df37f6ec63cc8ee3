"""A server by hand, for answers, frames and endings that no library gives sockeye's client.

It does to each connection what the address says, as README.md lists. All bytes of the answer and of
the steps leave in one write, unless a step comes between. Then it listens to the client's frames
until the end.
"""

import asyncio
import contextlib
import hashlib
import json
import socket
import struct
import zlib

from squeezed import Codec, parameters
from told import Record, Told, loopback
from wire import CLOSE, RSV1, TEXT, accept_key, frame, mask

# How long a client may take to end its connection.
END_SECONDS = 5
# How long a client is given to end TCP first, where it should leave that to the server.
TEMPTATION_SECONDS = 0.5
# Between the bytes of a slow write, so that each leaves as a segment of its own.
SLOW_SECONDS = 0.002
# A masked close frame with a code.
CLOSE_BYTES = 8
# All of any control frame's payload.
SHOWN_BYTES = 125

_records = {}


async def main():
    port, sockets = loopback()
    for listener in sockets:
        await asyncio.start_server(serve, sock=listener)
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await asyncio.get_running_loop().create_future()


async def serve(reader, writer):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    request_line, *lines = head.rstrip("\r\n").split("\r\n")
    headers = [line.split(": ", 1) for line in lines]
    told = Told(request_line.split(" ")[1])
    key = {name.lower(): value for name, value in headers}["sec-websocket-key"]
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        if told.path == "/seen":
            text = (await _records[told.id].tell()).encode()
            farewell = frame(CLOSE, (1000).to_bytes(2, "big"), masked=False)
            writer.write(answer(key, {}) + frame(TEXT, text, masked=False) + farewell)
            # The client's answer to the close frame; then it is for the server to end TCP.
            await reader.readexactly(CLOSE_BYTES)
            writer.write_eof()
            await reader.read()
        else:
            record = _records[told.id] = Record(
                request_line=request_line, headers=headers, frames=[], end="open", first=None
            )
            await Talk(reader, writer, key, record).run(told)
    finally:
        writer.transport.abort()


def answer(key, told):
    """The answer to a handshake, changed as told: headers are set, or left out if they are null."""
    if "raw" in told:
        return told["raw"].encode("latin-1")
    headers = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Accept": accept_key(key),
    }
    headers |= told.get("headers", {})
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    status_line = f"HTTP/1.1 {told.get('status', '101 Switching Protocols')}"
    head = "\r\n".join([status_line, *lines, "", ""])
    return (told.get("before", "") + head + told.get("body", "")).encode("latin-1")


class Talk:
    """One connection, and what it was seen to do."""

    def __init__(self, reader, writer, key, record):
        self._reader = reader
        self._writer = writer
        self._key = key
        self._record = record
        # Agreed to in the answer, rightly or wrongly.
        self._extension = None
        self._codec_of_it = None
        # Bytes of the next write.
        self._waiting = b""
        self._close_sent = False
        self._close_received = False
        # How many bytes came behind the client's close frame.
        self._rest = 0

    async def run(self, told):
        try:
            async with asyncio.timeout(END_SECONDS):
                changes = json.loads(told.one("answer", "{}"))
                self._extension = changes.get("headers", {}).get("Sec-WebSocket-Extensions")
                self._waiting = answer(self._key, changes)
                for step in told.steps:
                    await self._take(step)
                self._flush()
                await self._listen(told.one("closing", "proper"))
        except asyncio.IncompleteReadError:
            self._record.seen["end"] = "eof"
        except ConnectionError:
            self._record.seen["end"] = "reset"
        except TimeoutError:
            self._record.seen["end"] = "open"
        finally:
            self._record.end()

    async def _take(self, step):
        match step:
            case {"frame": what}:
                self._waiting += self._frame(**what) * step.get("times", 1)
            case {"bytes": data}:
                self._waiting += bytes.fromhex(data) * step.get("times", 1)
            case {"pause": seconds}:
                self._flush()
                await asyncio.sleep(seconds)
            case {"slowly": True}:
                await self._flush_slowly()
            case {"await": opcode}:
                self._flush()
                while (await self._next())["opcode"] != opcode:
                    pass
            case {"vanish": how}:
                self._flush()
                await self._vanish(how)
            case _:
                raise ValueError(f"unknown step {step}")

    def _frame(self, opcode, payload="", zeros=0, masked=False, compressed=False, **how):
        self._close_sent |= opcode == CLOSE
        payload = bytes.fromhex(payload) + bytes(zeros)
        if compressed:
            payload, how["rsv"] = self._codec.compress(payload), RSV1
        return frame(opcode, payload, masked=masked, **how)

    def _flush(self):
        if self._waiting:
            self._writer.write(self._waiting)
        self._waiting = b""

    async def _flush_slowly(self):
        for byte in self._waiting:
            self._writer.write(bytes([byte]))
            await asyncio.sleep(SLOW_SECONDS)
        self._waiting = b""

    async def _vanish(self, how):
        await self._writer.drain()
        if how == "reset":
            stream = self._writer.get_extra_info("socket")
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
        else:
            self._writer.write_eof()

    async def _listen(self, closing):
        """Reads all frames, closes as told, and sees how the client ends the connection."""
        while not self._close_received:
            await self._next()
        if closing == "unanswered":
            return await self._see_end("client")
        if not self._close_sent:
            code = bytes.fromhex(self._record.seen["frames"][-1]["payload"])[:2]
            self._waiting += self._frame(CLOSE, code.hex())
            self._flush()
        if closing == "tempting":
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TEMPTATION_SECONDS):
                    return await self._see_end("client")
        if closing == "kept":
            return await self._see_end("client")
        self._writer.write_eof()
        await self._see_end("server")

    async def _see_end(self, first):
        """The client's end of the stream, behind which nothing more may come."""
        while data := await self._reader.read(65536):
            self._rest += len(data)
        self._record.seen["end"] = f"{self._rest} more bytes" if self._rest else "eof"
        self._record.seen["first"] = first

    async def _next(self):
        """The next frame, which goes into the record."""
        first, second = await self._reader.readexactly(2)
        length, length_bytes = second & 0x7F, 0
        if length >= 126:
            length_bytes = 2 if length == 126 else 8
            length = int.from_bytes(await self._reader.readexactly(length_bytes), "big")
        key = await self._reader.readexactly(4) if second & 0x80 else None
        payload = await self._reader.readexactly(length)
        if key is not None:
            payload = mask(payload, key)
        seen = {
            "fin": bool(first & 0x80),
            "rsv": first >> 4 & 7,
            "opcode": first & 0x0F,
            "length": length,
            "length_bytes": length_bytes,
            "key": key.hex() if key is not None else None,
            "payload": payload[:SHOWN_BYTES].hex(),
            "inflated": self._inflated(payload) if first >> 4 & RSV1 else None,
        }
        self._record.seen["frames"].append(seen)
        self._close_received |= seen["opcode"] == CLOSE
        return seen

    @property
    def _codec(self):
        if self._codec_of_it is None:
            agreed = parameters(self._extension)
            self._codec_of_it = Codec(agreed, own="server", other="client")
        return self._codec_of_it

    def _inflated(self, payload):
        """What a compressed message is, inflated in no more than the window agreed on."""
        if self._extension is None:
            return "nothing was agreed to"
        try:
            return hashlib.sha1(self._codec.inflate(payload, strictly=True)).hexdigest()
        except zlib.error as error:
            return str(error)


if __name__ == "__main__":
    asyncio.run(main())
