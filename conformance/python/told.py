"""What a server is told in the address of a connection, and what it tells about it afterwards.

The query of each connection has its `id` and the steps (`do`) that the server is to take. What the
server has seen of a connection goes into its record, which `/seen?id=ID` asks for.
"""

import asyncio
import contextlib
import json
import socket
from urllib.parse import parse_qs, urlsplit

# How long to wait for the end of a connection that is asked about.
END_SECONDS = 5


class Told:
    """The address of one connection, taken apart."""

    def __init__(self, target):
        parts = urlsplit(target)
        self.path = parts.path
        self._query = parse_qs(parts.query)

    @property
    def id(self):
        return self.one("id")

    @property
    def steps(self):
        return json.loads(self.one("do", "[]"))

    @property
    def headers(self):
        """The headers to add to the answer."""
        return [header.split(": ", 1) for header in self._query.get("header", [])]

    def one(self, name, default=None):
        return self._query.get(name, [default])[0]


class Record:
    """What was seen of one connection."""

    def __init__(self, **seen):
        self.seen = seen
        self.released = asyncio.Event()
        self._ended = asyncio.Event()

    def end(self):
        """Nothing more will be seen."""
        self._ended.set()

    async def tell(self):
        """All that was seen, as JSON, once the connection has ended."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_SECONDS):
                await self._ended.wait()
        return json.dumps(self.seen | {"ended": self._ended.is_set()})


def loopback():
    """Sockets at a free port of 127.0.0.1 and, if this machine has IPv6, the same port of ::1."""
    while True:
        first = _bound(socket.AF_INET, ("127.0.0.1", 0))
        port = first.getsockname()[1]
        try:
            return port, [first, _bound(socket.AF_INET6, ("::1", port))]
        except OSError:
            if not _has_ipv6():
                return port, [first]
            # Somebody else has the port there.
            first.close()


def _has_ipv6():
    try:
        _bound(socket.AF_INET6, ("::1", 0)).close()
    except OSError:
        return False
    return True


def _bound(family, address):
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
