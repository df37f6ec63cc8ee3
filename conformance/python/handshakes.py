"""The opening handshake: what must be let in and what must be refused."""

from harness import check, equal
from wire import TEXT, echoes, expect_switch, frame, handshake, opened, tcp


async def refusal(target, method="GET", **changes):
    async with tcp(target) as wire:
        await wire.send(handshake(target, method, **changes))
        return await wire.response()


@check("handshake: Connection: keep-alive, Upgrade is accepted")
async def connection_list(target):
    async with opened(target, Connection="keep-alive, Upgrade") as wire:
        await echoes(wire)


@check("handshake: Connection and Upgrade are read without regard to case")
async def case_insensitive(target):
    async with opened(target, Connection="Keep-Alive, UPGRADE", Upgrade="WebSocket") as wire:
        await echoes(wire)


@check("handshake: same origin is accepted")
async def same_origin(target):
    async with opened(target, Origin=f"http://{target.authority}") as wire:
        await echoes(wire)


@check("handshake: a frame in the same segment is not lost")
async def frame_in_same_segment(target):
    async with tcp(target) as wire:
        await wire.send(handshake(target) + frame(TEXT, b"early"))
        await expect_switch(wire)
        await wire.expect(TEXT, b"early")


@check("handshake: wrong version is refused with 426 and the version spoken")
async def wrong_version(target):
    response = await refusal(target, Sec_WebSocket_Version="8")
    equal(response.status, 426, "status")
    equal(response.headers.get("sec-websocket-version"), "13", "Sec-WebSocket-Version")


@check("handshake: a plain GET is refused with 426")
async def no_upgrade(target):
    plain = dict.fromkeys(
        ("Connection", "Upgrade", "Sec_WebSocket_Version", "Sec_WebSocket_Key"), None
    )
    equal((await refusal(target, **plain)).status, 426, "status")


@check("handshake: POST is refused with 405")
async def post(target):
    equal((await refusal(target, "POST", Content_Length="0")).status, 405, "status")


def refused(what, status, **changes):
    @check(f"handshake: {what} is refused with {status}")
    async def refused_with(target):
        equal((await refusal(target, **changes)).status, status, "status")


refused("a key of 15 bytes", 400, Sec_WebSocket_Key="MTIzNDU2Nzg5MDEyMzQ1")
refused("a key that is not base64", 400, Sec_WebSocket_Key="!!!!!!!!!!!!!!!!!!!!!!==")
refused("a missing key", 400, Sec_WebSocket_Key=None)
refused("a foreign origin", 403, Origin="http://elsewhere.example")
refused("the same host with another port as origin", 403, Origin="http://127.0.0.1:1")
refused("Origin: null", 403, Origin="null")
