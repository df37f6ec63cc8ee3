"""The websockets library compressed, with a tap that sees what is on the wire."""

import random

from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from harness import COMPRESSING, check, equal
from messages import MIB, connect
from squeezed import digits, prose
from tap import tapped
from wire import BINARY, RSV1, TEXT


def data_frames(frames):
    return [frame for frame in frames if frame.opcode in (TEXT, BINARY)]


@check("wire: 20,000 characters are compressed both ways, with default settings", COMPRESSING)
async def defaults(target):
    message = prose(20_000).decode()
    async with tapped(target) as (target, tap):
        async with connect(target) as socket:
            for data in (message, message.encode()):
                await socket.send(data)
                equal(await socket.recv(), data, "echo")
        for frames in (tap.sent, tap.received):
            frames = data_frames(frames)
            equal([frame.opcode for frame in frames], [TEXT, BINARY], "opcodes")
            for frame in frames:
                equal((frame.fin, frame.rsv), (True, RSV1), "FIN and RSV")
                equal(frame.length < 5000, True, f"{frame.length} bytes, are they few")


@check("wire: short messages come as they are", COMPRESSING)
async def short_messages(target):
    async with tapped(target) as (target, tap):
        async with connect(target) as socket:
            for length in (0, 1, 255):
                await socket.send("a" * length)
                equal(await socket.recv(), "a" * length, "echo")
        sent, received = data_frames(tap.sent), data_frames(tap.received)
        equal([frame.rsv for frame in sent], [RSV1] * 3, "RSV of what was sent")
        equal([frame.rsv for frame in received], [0] * 3, "RSV of what was received")
        equal([frame.length for frame in received], [0, 1, 255], "lengths")


async def twice(target):
    """The lengths of what the program sends if it gets the same message twice."""
    async with tapped(target) as (target, tap):
        async with connect(target) as socket:
            for _ in range(2):
                await socket.send(digits(2000))
                equal(await socket.recv(), digits(2000), "echo")
        received = data_frames(tap.received)
        equal([frame.rsv for frame in received], [RSV1] * 2, "RSV")
        return [frame.length for frame in received]


@check("wire: the second time a message is much shorter", ("dedicated",))
async def taken_over(target):
    first, second = await twice(target)
    equal(second < first // 10, True, f"{second} bytes after {first}, are they few")


@check("wire: the second time a message is as long as the first", ("shared",))
async def not_taken_over(target):
    first, second = await twice(target)
    equal(second, first, "length of the second message")


@check("wire: nothing is compressed that was not agreed on")
async def uncompressed(target):
    offer = {} if target.policy == "off" else {"compression": None}
    message = prose(20_000).decode()
    async with tapped(target) as (target, tap):
        async with connect(target, **offer) as socket:
            equal(socket.protocol.extensions, [], "extensions")
            await socket.send(message)
            equal(await socket.recv(), message, "echo")
        for frames in (tap.sent, tap.received):
            [frame] = data_frames(frames)
            equal((frame.rsv, frame.length), (0, len(message)), "RSV and length")


def talks(**settings):
    named = ", ".join(f"{name}={value}" for name, value in settings.items())

    @check(f"library, compressed: 200 messages with {named or 'no parameters'}", COMPRESSING)
    async def talk(target):
        offer = ClientPerMessageDeflateFactory(**settings)
        chosen = random.Random(named)
        # The library's own compression is its default offer; this one is in its place.
        async with connect(
            target, compression=None, extensions=[offer], max_size=2 * MIB
        ) as socket:
            equal(len(socket.protocol.extensions), 1, "number of extensions")
            for _ in range(200):
                length = chosen.choice([0, 1, 100, 255, 256, 300, 2000, 20_000, 100_000])
                seed = chosen.randrange(4)
                message = chosen.choice([prose, digits])(length, seed)
                await socket.send(message)
                equal(await socket.recv(), message, "echo")


talks()
talks(client_max_window_bits=True)
talks(client_max_window_bits=9, server_max_window_bits=9)
talks(server_max_window_bits=11)
talks(server_no_context_takeover=True, client_max_window_bits=True)
talks(client_no_context_takeover=True)
talks(server_no_context_takeover=True, client_no_context_takeover=True)
