"""Offers of compression: what the program agrees to, and what it declines or refuses (RFC 7692)."""

from harness import COMPRESSING, check, equal
from squeezed import NAME, agreed, squeezed
from wire import RSV1, TEXT, echoes, expect_switch, frame, handshake, opened, tcp

SERVER_TAKEOVER = {"server_no_context_takeover": None}
CLIENT_TAKEOVER = {"client_no_context_takeover": None}
NO_TAKEOVER = SERVER_TAKEOVER | CLIENT_TAKEOVER

# Parameters of an offer, and what has to be agreed on. `dedicated` has windows of 12 bits.
OFFERS = [
    ("", CLIENT_TAKEOVER | {"server_max_window_bits": "12"}, NO_TAKEOVER),
    (
        "; client_max_window_bits",
        {"server_max_window_bits": "12", "client_max_window_bits": "12"},
        NO_TAKEOVER,
    ),
    (
        ";client_max_window_bits=10",
        {"server_max_window_bits": "12", "client_max_window_bits": "10"},
        NO_TAKEOVER,
    ),
    (
        "; client_max_window_bits=15; server_max_window_bits=15",
        {"server_max_window_bits": "12", "client_max_window_bits": "12"},
        NO_TAKEOVER | {"server_max_window_bits": "15"},
    ),
    (
        "; server_max_window_bits=8; client_max_window_bits=9",
        {"server_max_window_bits": "8", "client_max_window_bits": "9"},
        NO_TAKEOVER | {"server_max_window_bits": "8"},
    ),
    (
        '; server_max_window_bits="9"; client_max_window_bits',
        {"server_max_window_bits": "9", "client_max_window_bits": "12"},
        NO_TAKEOVER | {"server_max_window_bits": "9"},
    ),
    (
        "; server_no_context_takeover; client_max_window_bits",
        SERVER_TAKEOVER | {"client_max_window_bits": "12"},
        NO_TAKEOVER,
    ),
    (
        "; client_no_context_takeover",
        CLIENT_TAKEOVER | {"server_max_window_bits": "12"},
        NO_TAKEOVER,
    ),
    ("; client_no_context_takeover; server_no_context_takeover", NO_TAKEOVER, NO_TAKEOVER),
]

# For each of these a server has to decline the offer (section 7).
DECLINED = [
    "; unknown",
    "; client_max_window_bits; mode=fast",
    "; server_max_window_bits=7",
    "; server_max_window_bits=16",
    "; client_max_window_bits=7",
    "; client_max_window_bits=16",
    "; server_max_window_bits=08",
    "; server_max_window_bits=-9",
    "; server_max_window_bits=ten",
    "; server_max_window_bits=99999999999999999999",
    "; server_max_window_bits",
    "; server_no_context_takeover=1",
    "; client_no_context_takeover=true",
    "; server_no_context_takeover; server_no_context_takeover",
    "; client_no_context_takeover; client_no_context_takeover",
    "; server_max_window_bits=10; server_max_window_bits=10",
    "; client_max_window_bits; client_max_window_bits=10",
]

# Against the grammar of RFC 6455 section 9.1, which has to fail the connection.
MALFORMED = [
    f"{NAME};",
    f"; {NAME}",
    f"{NAME}; =10",
    f"{NAME}; server_max_window_bits=",
    f'{NAME}; server_max_window_bits="10',
    f"{NAME}; server_max_window_bits=10=10",
    f"{NAME} client_max_window_bits",
    f"{NAME}; client max window bits",
    f"{NAME}, x-other; (",
]


def agrees(offer, expected, policies):
    @check(f"offer: {offer} is agreed to", policies)
    async def agreed_to(target):
        async with squeezed(target, offer) as deflated:
            equal(deflated.agreed, expected, "what was agreed on")
            text = b"agreed " * 100
            for _ in range(2):
                await deflated.send(TEXT, text)
                equal((await deflated.message()).payload, text, "echo")


for added, dedicated, shared in OFFERS:
    agrees(NAME + added, dedicated, ("dedicated",))
    agrees(NAME + added, shared, ("shared",))


def declines(offer):
    @check(f"offer: {offer} is declined")
    async def declined(target):
        await without(target, offer)


async def without(target, offer):
    async with tcp(target) as wire:
        await wire.send(handshake(target, Sec_WebSocket_Extensions=offer))
        response = await expect_switch(wire)
        equal(response.headers.get("sec-websocket-extensions"), None, "Sec-WebSocket-Extensions")
        await echoes(wire)
        long = b"compress me " * 1000
        await wire.send(frame(TEXT, long))
        await wire.expect(TEXT, long)
        # What was not agreed to must not be used.
        await wire.send(frame(TEXT, b"\x00", rsv=RSV1))
        await wire.expect_close(1002)


for added in DECLINED:
    declines(NAME + added)
declines("x-webkit-deflate-frame")
declines("x-other; mode=fast, permessage-bzip2")


def falls_back(what, offer, bits):
    @check(f"offer: {what}", COMPRESSING)
    async def fallen_back(target):
        async with tcp(target) as wire:
            await wire.send(handshake(target, Sec_WebSocket_Extensions=offer))
            answer = agreed(await expect_switch(wire))
            equal(answer.get("server_max_window_bits"), bits, "server_max_window_bits")


falls_back(
    "the first of two good ones is taken",
    f"{NAME}; server_max_window_bits=9, {NAME}; server_max_window_bits=10",
    "9",
)
falls_back(
    "behind declined ones, the first good one is taken",
    f"{NAME}; unknown, x-other, {NAME}; server_max_window_bits=7, "
    f"{NAME}; server_max_window_bits=10, {NAME}; server_max_window_bits=11",
    "10",
)
falls_back(
    "a second header goes on with the list of the first",
    f"{NAME}; server_max_window_bits=16\r\nSec-WebSocket-Extensions: "
    f"{NAME}; server_max_window_bits=11",
    "11",
)


def refused(header):
    @check(f"offer: the malformed {header} is refused with 400")
    async def refused_with(target):
        async with tcp(target) as wire:
            await wire.send(handshake(target, Sec_WebSocket_Extensions=header))
            equal((await wire.response()).status, 400, "status")


for header in MALFORMED:
    refused(header)


@check("offer: a browser's is declined by a program that does not compress", ("off",))
async def declined_by_policy(target):
    await without(target, f"{NAME}; client_max_window_bits")


@check("offer: without one nothing is agreed to, and nothing is compressed")
async def no_offer(target):
    async with opened(target) as wire:
        long = b"compress me " * 1000
        await wire.send(frame(TEXT, long))
        await wire.expect(TEXT, long)
