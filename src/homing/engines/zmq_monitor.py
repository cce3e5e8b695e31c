"""What a ZeroMQ socket tells of its connections: that one is there, that one is gone, that one was refused."""

import asyncio
import struct
import sys
from collections.abc import Callable

import zmq

from homing.engines.zmq_socket import Reader

HANDSHAKE_ENDED_BADLY = (
    zmq.Event.HANDSHAKE_FAILED_NO_DETAIL | zmq.Event.HANDSHAKE_FAILED_PROTOCOL | zmq.Event.HANDSHAKE_FAILED_AUTH
)

_EVENT = struct.Struct("=Hi")


class Monitor:
    """Calls `heard(event, value)` for each of `events`. `value` is a file descriptor, or why a handshake ended badly."""

    __slots__ = ("_heard", "_monitored", "_reader", "_socket")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        context: zmq.Context[zmq.Socket[bytes]],
        monitored: zmq.Socket[bytes],
        events: int,
        heard: Callable[[int, int], None],
    ) -> None:
        address = f"inproc://monitor-{int(monitored.get(zmq.FD))}"
        monitored.monitor(address, events)
        self._monitored = monitored
        self._heard = heard
        self._socket = context.socket(zmq.PAIR)
        # At a high-water mark libzmq's own thread would wait for us, and every connection of the process with it.
        self._socket.set(zmq.RCVHWM, 0)
        self._socket.set(zmq.LINGER, 0)
        self._socket.connect(address)
        self._reader = Reader(loop, self._socket, self._receive, sys.maxsize)

    def drain(self) -> None:
        """Tell all that is known by now."""
        self._reader.drain()

    def close(self) -> None:
        """Tell nothing more."""
        self._reader.close()
        self._monitored.disable_monitor()
        self._socket.close()

    def _receive(self) -> int:
        event, value = _EVENT.unpack(self._reader.recv())
        self._reader.recv()  # the endpoint, which is known
        self._heard(event, value)
        return 2
