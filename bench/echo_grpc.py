"""Unary calls over grpc.aio, with bytes for messages. python -m bench.echo_grpc server PORT | client PORT IN_FLIGHT SECONDS"""

import asyncio
import sys

import grpc

from bench.flight import BODY, fly


async def serve(port: str) -> None:
    """Answer with what was asked."""

    async def echo(request: bytes, context: object) -> bytes:
        return request

    server = grpc.aio.server()
    handlers = {"echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench", handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def load(port: str, in_flight: int, seconds: float) -> None:
    """Ask."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        echo = channel.unary_unary("/bench/echo")
        body = BODY.encode()
        await fly(lambda: echo(body, timeout=30), in_flight, seconds)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[2]) if sys.argv[1] == "server" else load(sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
