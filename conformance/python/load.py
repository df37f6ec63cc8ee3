"""Many connections at once."""

import asyncio

from harness import check, equal
from messages import connect

CONNECTIONS = 200
MESSAGES = 100


@check(f"load: {CONNECTIONS} connections at once, {MESSAGES} messages each, in order")
async def many_connections(target):
    all_open = asyncio.Barrier(CONNECTIONS)

    async def talk(number):
        # 200 handshakes at once, so the last ones may wait long for their turn.
        async with connect(target, open_timeout=20) as socket:
            await all_open.wait()
            messages = [f"connection {number}, message {index}" for index in range(MESSAGES)]
            # All at once, so that the program has the chance to mix up their order.
            for message in messages:
                await socket.send(message)
            equal([await socket.recv() for _ in messages], messages, "echoes")

    async with asyncio.TaskGroup() as group:
        for number in range(CONNECTIONS):
            group.create_task(talk(number))
