"""A compressed connection by hand: zlib on this side, single frames on the wire."""

import random
import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass

from harness import equal
from wire import CONTINUATION, RSV1, expect_switch, frame, handshake, tcp

NAME = "permessage-deflate"
# What browsers offer.
OFFER = f"{NAME}; client_max_window_bits"
# The end of what zlib flushes, which stays off the wire (RFC 7692 section 7.2.1).
TAIL = b"\x00\x00\xff\xff"


@dataclass(frozen=True)
class Message:
    opcode: int
    payload: bytes
    compressed: bool
    # Bytes of the payload on the wire.
    length: int


@asynccontextmanager
async def squeezed(target, offer=OFFER):
    """A connection on which one of these offers was agreed to."""
    async with tcp(target) as wire:
        await wire.send(handshake(target, Sec_WebSocket_Extensions=offer))
        yield Squeezed(wire, agreed(await expect_switch(wire)))


def agreed(response):
    """The parameters that the program agreed to."""
    header = response.headers.get("sec-websocket-extensions")
    if header is None:
        raise AssertionError("nothing was agreed to")
    return parameters(header)


def parameters(element):
    """What stands behind the name of the extension; None for parameters without a value."""
    name, *rest = (part.strip() for part in element.split(";"))
    equal(name, NAME, "extension")
    found = {}
    for parameter in rest:
        key, _, value = parameter.partition("=")
        equal(key in found, False, f"{key} twice")
        found[key] = value or None
    return found


class Squeezed:
    """A client's end of a connection: the wire, and how messages go over it."""

    def __init__(self, wire, parameters):
        self.wire = wire
        self.agreed = parameters
        self._codec = Codec(parameters, own="client", other="server")

    def compress(self, data):
        """The payload of this message, the next one of this side."""
        return self._codec.compress(data)

    async def send(self, opcode, data):
        await self.wire.send(frame(opcode, self.compress(data), rsv=RSV1))

    async def message(self, *, strictly=False):
        """The next message of the program, inflated; strictly in no more than the agreed window."""
        got = await self.wire.frame(allowed_rsv=RSV1)
        # Some browsers cannot take a compressed message in fragments.
        equal(got.fin, True, "FIN")
        payload = self._codec.inflate(got.payload, strictly) if got.rsv else got.payload
        return Message(got.opcode, payload, bool(got.rsv), len(got.payload))

    async def echoed(self, opcode, data):
        """The next message is this one; gives how it came."""
        got = await self.message()
        equal(got.opcode, opcode, "opcode")
        equal(got.payload, data, "echo")
        return got


class Codec:
    """Both directions of one end, `client` or `server`, under the parameters agreed on."""

    def __init__(self, parameters, own, other):
        self._parameters = parameters
        self._own = own
        self._other = other
        self._deflater = None
        self._inflater = None

    def compress(self, data):
        """The payload of the next message of this side."""
        if self._deflater is None or self._forgets(self._own):
            self._deflater = zlib.compressobj(wbits=-self._bits(self._own))
        payload = self._deflater.compress(data) + self._deflater.flush(zlib.Z_SYNC_FLUSH)
        equal(payload[-4:], TAIL, "the end of what zlib flushed")
        return payload[:-4]

    def inflate(self, payload, strictly):
        """The next message of the other side; strictly in no more than the agreed window."""
        if self._inflater is None or self._forgets(self._other):
            self._inflater = zlib.decompressobj(wbits=-self._bits(self._other))
        if not strictly:
            return self._inflater.decompress(payload + TAIL)
        # zlib looks back into its output, too, however small the window is. Byte by byte there is
        # nothing but the window.
        inflated, rest = bytearray(), payload + TAIL
        while rest:
            inflated += self._inflater.decompress(rest, 1)
            rest = self._inflater.unconsumed_tail
        while more := self._inflater.decompress(b"", 1):
            inflated += more
        return bytes(inflated)

    def _forgets(self, side):
        return f"{side}_no_context_takeover" in self._parameters

    def _bits(self, side):
        return int(self._parameters.get(f"{side}_max_window_bits") or 15)


def fragments(payload, opcode, size):
    """The frames of a compressed message in pieces: only the first one says that it is."""
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    last = len(pieces) - 1
    return [
        frame(CONTINUATION if n else opcode, piece, fin=n == last, rsv=0 if n else RSV1)
        for n, piece in enumerate(pieces)
    ]


def prose(length, seed=0):
    """Text of which a tenth is left when it is compressed, the same on every run."""
    chosen = random.Random(seed)
    sentences = [chosen.randbytes(20).hex(" ", 5) + ". " for _ in range(20)]
    text = "".join(chosen.choice(sentences) for _ in range(length // 40 + 1))
    return text[:length].encode()


def digits(length, seed=0):
    """Text without repetitions, of which most is left when it is compressed."""
    return random.Random(seed).randbytes(length // 2).hex().encode()


def noise(length, seed=0):
    """Bytes that no compression makes fewer."""
    return random.Random(seed).randbytes(length)
