"""A server made of the websockets library, for sockeye's client.

It does to each connection what the address says, as README.md lists, and then echoes.
"""

import asyncio
import hashlib
import json
import socket
import struct

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

from told import Record, Told, loopback

_records = {}


async def main():
    port, sockets = loopback()
    for listener in sockets:
        await serve(
            handle,
            sock=listener,
            process_request=answer,
            process_response=add_headers,
            select_subprotocol=choose_subprotocol,
            max_size=None,
            # Only the pings that are asked for.
            ping_interval=None,
        )
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await asyncio.get_running_loop().create_future()


def answer(connection, request):
    """Keeps the request, and refuses it if that is asked for."""
    told = Told(request.path)
    if told.path != "/":
        return None
    record = _records[told.id] = Record(
        target=request.path,
        headers=list(request.headers.raw_items()),
        received=[],
        pongs=[],
        close=None,
    )
    deflate = told.one("deflate")
    if deflate is not None:
        # In place of the library's default.
        factory = ServerPerMessageDeflateFactory(**json.loads(deflate))
        connection.protocol.available_extensions = [factory]
    status = told.one("refuse")
    if status is None:
        return None
    record.end()
    return connection.respond(int(status), told.one("body", ""))


def add_headers(connection, request, response):
    for name, value in Told(request.path).headers:
        response.headers[name] = value


def choose_subprotocol(connection, offered):
    return Told(connection.request.path).one("subprotocol")


async def handle(connection):
    told = Told(connection.request.path)
    record = _records[told.id]
    if told.path == "/seen":
        await connection.send(await record.tell())
    elif told.path == "/release":
        record.released.set()
    else:
        await play(connection, told.steps, record)


async def play(connection, steps, record):
    try:
        for step in steps:
            await take(connection, step, record)
        while True:
            await connection.send(await received(connection, record))
    except ConnectionClosed as closed:
        record.seen["close"] = {
            "code": closed.rcvd.code if closed.rcvd else 1006,
            "reason": closed.rcvd.reason if closed.rcvd else "",
            "error": str(closed.__cause__) if closed.__cause__ else None,
        }
        record.end()


async def take(connection, step, record):
    match step:
        case {"text": text}:
            await connection.send(text)
        case {"numbers": count}:
            for number in range(count):
                await connection.send(str(number))
        case {"zeros": size}:
            await connection.send(bytes(size))
        case {"fragments": text, "size": size, "kind": kind}:
            parts = fragments(connection, text.encode(), size, step.get("ping"), record)
            await connection.send(parts, text=kind == "text")
        case {"ping": payload}:
            await pinged(connection, payload, record)
        case {"listen": True}:
            while True:
                await received(connection, record)
        case {"hold": True}:
            # The library stops reading once its queue is full.
            await record.released.wait()
        case {"close": []}:
            async with connection.send_context():
                connection.protocol.send_close()
        case {"close": [code, reason]}:
            await connection.close(code, reason)
        case {"vanish": how}:
            if how == "reset":
                no_lingering = struct.pack("ii", 1, 0)
                stream = connection.transport.get_extra_info("socket")
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_lingering)
            connection.transport.abort()
        case _:
            raise ValueError(f"unknown step {step}")


async def fragments(connection, data, size, ping, record):
    """Pieces of `data` for fragments, each of which waits until a ping behind it was answered."""
    for start in range(0, len(data), size):
        yield data[start : start + size]
        if ping is not None:
            await pinged(connection, ping, record)


async def pinged(connection, payload, record):
    """A ping whose pong has come with the same payload."""
    await (await connection.ping(payload))
    record.seen["pongs"].append(payload)


async def received(connection, record):
    """The next message, which goes into the record."""
    message = await connection.recv()
    kind, data = ("text", message.encode()) if isinstance(message, str) else ("binary", message)
    summary = {"kind": kind, "length": len(data), "sha1": hashlib.sha1(data).hexdigest()}
    record.seen["received"].append(summary)
    return message


if __name__ == "__main__":
    asyncio.run(main())
