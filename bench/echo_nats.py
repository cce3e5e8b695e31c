"""Request and reply over nats-server. python -m bench.echo_nats server URL | client URL IN_FLIGHT SECONDS"""

import asyncio
import sys

import nats
import uvloop
from nats.aio.msg import Msg

from bench.flight import BODY, fly


async def serve(url: str) -> None:
    """Answer with what was asked."""
    connection = await nats.connect(url)

    async def answer(message: Msg) -> None:
        await message.respond(message.data)

    await connection.subscribe("echo", cb=answer)
    await asyncio.Event().wait()


async def load(url: str, in_flight: int, seconds: float) -> None:
    """Ask."""
    connection = await nats.connect(url)
    body = BODY.encode()
    await fly(lambda: connection.request("echo", body, timeout=30), in_flight, seconds)
    await connection.close()


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[2]) if sys.argv[1] == "server" else load(sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
