"""Messages, fragments, pings and closes with the websockets library, as its users would."""

import asyncio
import random

import websockets.asyncio.client
import websockets.exceptions
import websockets.sync.client

from harness import check, equal

MIB = 1 << 20

# The last size of each way to write a frame's length, and its neighbours.
BOUNDARY_SIZES = (0, 1, 125, 126, 127, 65535, 65536, MIB)

ACCENTS = "Grüße, здравствуй, 你好, שלום, \u0000 and \U0001f9a6\U0001f44d\U0001f3fd"


def connect(target, **options):
    # No proxy: the environment's one, if any, has no business between here and loopback.
    return websockets.asyncio.client.connect(target.echo, proxy=None, **options)


async def echoed(socket, message):
    await socket.send(message)
    equal(await socket.recv(), message, "echo")


@check("library, asyncio, default settings: text and binary, clean close")
async def asyncio_defaults(target):
    async with connect(target) as socket:
        await echoed(socket, "hello")
        await echoed(socket, b"\x00\xff")
    equal(socket.close_code, 1000, "close code")


@check("library, sync, default settings: text and binary, clean close")
async def sync_defaults(target):
    def talk():
        with websockets.sync.client.connect(target.echo, proxy=None) as socket:
            for message in ("hello", b"\x00\xff"):
                socket.send(message)
                equal(socket.recv(), message, "echo")
        equal(socket.close_code, 1000, "close code")

    await asyncio.to_thread(talk)


@check("text: non-ASCII and emoji")
async def text_beyond_ascii(target):
    async with connect(target) as socket:
        await echoed(socket, ACCENTS)


@check("text: empty")
async def empty_text(target):
    async with connect(target) as socket:
        await echoed(socket, "")


def binary_of_size(size):
    @check(f"binary: {size} bytes")
    async def binary(target):
        async with connect(target, max_size=2 * MIB) as socket:
            await echoed(socket, random.randbytes(size))


for size in BOUNDARY_SIZES:
    binary_of_size(size)


@check("binary: 10 MiB")
async def large_binary(target):
    async with connect(target, max_size=11 * MIB) as socket:
        await echoed(socket, random.randbytes(10 * MIB))


@check("text: 10 MiB")
async def large_text(target):
    # Four characters of one, two, three and four bytes.
    async with connect(target, max_size=11 * MIB) as socket:
        await echoed(socket, "a\u00e9\u20ac\U0001f9a6" * MIB)


@check("fragments: text")
async def text_fragments(target):
    async with connect(target) as socket:
        await socket.send(["one ", "", "two ", "three"])
        equal(await socket.recv(), "one two three", "echo")


@check("fragments: binary")
async def binary_fragments(target):
    async with connect(target) as socket:
        parts = [random.randbytes(size) for size in (1, 200, 0, 70000)]
        await socket.send(parts)
        equal(await socket.recv(), b"".join(parts), "echo")


@check("fragments: characters split over them")
async def split_characters(target):
    async with connect(target) as socket:
        single_bytes = [bytes([byte]) for byte in ACCENTS.encode()]
        await socket.send(single_bytes, text=True)
        equal(await socket.recv(), ACCENTS, "echo")


@check("ping: answered by the pong with its payload")
async def ping(target):
    async with connect(target) as socket:
        for payload in (b"", b"payload", bytes(125)):
            await asyncio.wait_for(await socket.ping(payload), 5)


@check("pong: an unasked one is ignored")
async def unasked_pong(target):
    async with connect(target) as socket:
        await socket.pong(b"nobody asked")
        await echoed(socket, "still here")


def close_with(code):
    @check(f"close: {code} with a reason comes back")
    async def close(target):
        async with connect(target, close_timeout=5) as socket:
            await socket.close(code, "because")
            equal(socket.close_code, code, "close code")
            ours, theirs = socket.protocol.close_sent, socket.protocol.close_rcvd
            equal((ours.code, theirs.code), (code, code), "codes sent and received")


for code in (1000, 1001, 3000, 4999):
    close_with(code)


@check("close: the program closes with 1009 when a message is too big")
async def closed_by_the_program(target):
    # Not "async with": aborting an already lost connection at its end fails inside Python 3.11.
    socket = await connect(target)
    try:
        await socket.send(bytes(17 * MIB))
        await socket.recv()
    except websockets.exceptions.ConnectionClosed as error:
        equal(error.rcvd and error.rcvd.code, 1009, "close code")
    else:
        raise AssertionError("the message was answered")
