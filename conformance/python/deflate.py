"""What the program sends compressed, and how, seen frame by frame."""

from harness import COMPRESSING, check, equal
from squeezed import NAME, OFFER, digits, noise, prose, squeezed
from wire import BINARY, RSV1, TEXT, frame

# Shorter messages the program sends as they are.
THRESHOLD = 256
# Both go through the windows again and again, and each refers to what was before.
TALK = [prose(300 + 40 * n, seed=n % 3) for n in range(60)]


@check("deflate: 20,000 characters come in far fewer bytes, text and binary", COMPRESSING)
async def long_text(target):
    async with squeezed(target) as deflated:
        message = prose(20_000)
        for opcode in (TEXT, BINARY):
            await deflated.send(opcode, message)
            got = await deflated.echoed(opcode, message)
            equal(got.compressed, True, "compressed")
            equal(got.length < len(message) // 4, True, f"{got.length} bytes, are they few")


@check(f"deflate: only messages of {THRESHOLD} bytes and more are compressed", COMPRESSING)
async def threshold(target):
    async with squeezed(target) as deflated:
        for length in (0, 1, THRESHOLD - 1, THRESHOLD, THRESHOLD + 1):
            for compressed in (True, False):
                message = b"a" * length
                if compressed:
                    await deflated.send(TEXT, message)
                else:
                    await deflated.wire.send(frame(TEXT, message))
                got = await deflated.echoed(TEXT, message)
                equal(got.compressed, length >= THRESHOLD, f"{length} bytes, compressed")


@check("deflate: what gets no shorter is sent as it is, and the rest still inflates", COMPRESSING)
async def incompressible(target):
    async with squeezed(target) as deflated:
        for round in range(20):
            for message, compressed in (
                (noise(1000 * round + 300, seed=round), False),
                (prose(2000, seed=round), True),
                # Has been seen before, as has what was sent as it is.
                (prose(2000, seed=0), True),
            ):
                await deflated.send(BINARY, message)
                equal((await deflated.echoed(BINARY, message)).compressed, compressed, "compressed")


async def twice(target, offer=OFFER):
    """How many bytes the same message takes the first and the second time."""
    async with squeezed(target, offer) as deflated:
        message = digits(2000)
        lengths = []
        for _ in range(2):
            await deflated.send(TEXT, message)
            got = await deflated.echoed(TEXT, message)
            equal(got.compressed, True, "compressed")
            lengths.append(got.length)
        return lengths


@check("deflate: the same message again is much shorter", ("dedicated",))
async def taken_over(target):
    first, second = await twice(target)
    equal(second < first // 10, True, f"{second} bytes after {first}, are they few")


@check("deflate: the same message again is as long as before", ("shared",))
async def not_taken_over(target):
    first, second = await twice(target)
    equal(second, first, "length of the second message")


@check("deflate: server_no_context_takeover is kept to", ("dedicated",))
async def no_takeover_demanded(target):
    first, second = await twice(target, f"{NAME}; server_no_context_takeover")
    equal(second, first, "length of the second message")


def keeps_to(bits):
    @check(f"deflate: refers no further back than a window of {bits} bits", COMPRESSING)
    async def kept_to(target):
        async with squeezed(target, f"{NAME}; server_max_window_bits={bits}") as deflated:
            equal(int(deflated.agreed["server_max_window_bits"]) <= bits, True, "is it as small")
            for distance in (100, 250, 300, 1000, 3000, 5000, 20_000):
                # What was before recurs at this distance.
                message = digits(distance, seed=distance) * 3
                for _ in range(2):
                    await deflated.send(TEXT, message)
                    got = await deflated.message(strictly=True)
                    equal(got.payload, message, "echo")


for bits in (8, 9, 10, 12, 15):
    keeps_to(bits)


@check("deflate: messages sent all at once come back in order", COMPRESSING)
async def all_at_once(target):
    async with squeezed(target) as deflated:
        messages = [prose(40 * (n % 50), seed=n % 7) for n in range(1000)]
        sent = [frame(TEXT, deflated.compress(message), rsv=RSV1) for message in messages]
        deflated.wire.send_later(b"".join(sent))
        for message in messages:
            await deflated.echoed(TEXT, message)


@check("deflate: a talk of messages that refer to each other", COMPRESSING)
async def talk(target):
    for offer in (
        OFFER,
        f"{NAME}; client_max_window_bits=9; server_max_window_bits=9",
        f"{NAME}; client_no_context_takeover; server_max_window_bits=10",
        f"{NAME}; server_no_context_takeover; client_max_window_bits=11",
    ):
        async with squeezed(target, offer) as deflated:
            for message in TALK:
                await deflated.send(TEXT, message)
                await deflated.echoed(TEXT, message)
