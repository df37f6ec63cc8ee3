"""What the protocol forbids, sent byte by byte: each is answered with its close code, then EOF.

Unread input is always pending behind the violation. A program that just drops its socket then
resets the connection, and the reset can destroy the close frame before the peer has read it.
"""

from harness import check
from wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    frame,
    opened,
)

MIB = 1 << 20
MAX_MESSAGE = 16 * MIB
# Sound by itself: a program that overlooks the violation in front of it echoes this instead.
PENDING = frame(BINARY, bytes(256 * 1024))


def violation(name, code, *frames):
    @check(f"violation: {name} is closed with {code}")
    async def violated(target):
        async with opened(target) as wire:
            wire.send_later(b"".join(frames) + PENDING)
            await wire.expect_close(code)


def close_payload(code, reason=b""):
    return code.to_bytes(2, "big") + reason


violation("unmasked frame", 1002, frame(TEXT, b"x", masked=False))
violation("reserved data opcode", 1002, frame(0x3, b"x"))
violation("reserved control opcode", 1002, frame(0xB))
for bit, rsv in (("RSV1", 4), ("RSV2", 2), ("RSV3", 1)):
    violation(bit, 1002, frame(TEXT, b"x", rsv=rsv))

violation("invalid UTF-8", 1007, frame(TEXT, b"\xc0\xaf"))
violation("a surrogate in UTF-8", 1007, frame(TEXT, b"\xed\xa0\x80"))
violation("a character cut short at the end of a text", 1007, frame(TEXT, b"\xe2\x82"))
violation(
    "invalid UTF-8 in a later fragment",
    1007,
    frame(TEXT, b"\xe2\x82", fin=False),
    frame(CONTINUATION, b"\x28"),
)

for code in (999, 1005, 1006, 1015):
    violation(f"close code {code}", 1002, frame(CLOSE, close_payload(code)))
violation("close payload of one byte", 1002, frame(CLOSE, b"\x03"))
violation("invalid UTF-8 in a close reason", 1007, frame(CLOSE, close_payload(1000, b"\xff")))

violation("fragmented ping", 1002, frame(PING, b"x", fin=False))
violation("fragmented close", 1002, frame(CLOSE, close_payload(1000), fin=False))
violation("ping of 126 bytes", 1002, frame(PING, bytes(126)))
violation("pong of 126 bytes", 1002, frame(PONG, bytes(126)))
violation("continuation of nothing", 1002, frame(CONTINUATION, b"x"))
violation(
    "new message inside a fragmented one",
    1002,
    frame(TEXT, b"one", fin=False),
    frame(TEXT, b"two"),
)

violation("length of 125 in 16 bits", 1002, frame(BINARY, bytes(125), length_bytes=2))
violation("length of 65535 in 64 bits", 1002, frame(BINARY, bytes(65535), length_bytes=8))
violation(
    "64-bit length with its top bit set",
    1002,
    frame(BINARY, length_bytes=8, announced=1 << 63),
)

violation("announced message of 17 MiB", 1009, frame(BINARY, announced=17 * MIB))
violation("announced message of one byte too many", 1009, frame(BINARY, announced=MAX_MESSAGE + 1))
violation(
    "fragments that add up to more than the maximum",
    1009,
    frame(BINARY, bytes(9 * MIB), fin=False),
    frame(CONTINUATION, bytes(9 * MIB)),
)
