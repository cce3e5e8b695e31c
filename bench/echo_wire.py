"""The broker alone: peers that do no more than the wire asks of a gateway and of a worker, so that the broker is what is measured.

python -m bench.echo_wire worker URL | client URL IN_FLIGHT SECONDS

Every message of the protocol passes the broker as ever: REQUEST, CLAIM, GRANT, FINAL, and SETTLED for several at once. But nobody behind
these peers has a deadline, a retry or a promise to keep.
"""

import os
import sys
import time

import zmq

from bench.flight import BODY, Flight
from homing.core import codec
from homing.core.messages import GATEWAY_BYTES, LIFE_BYTES, Claim, Final, Grant, Hello, Message, Ready, Request, Settled
from homing.errors import Outcome

CREDIT = 10_000
REMAINING_MS = 60_000


class Peer:
    """A DEALER that speaks the wire: what is said until `flush` leaves as one ZeroMQ message."""

    def __init__(self, url: str) -> None:
        self.life = os.urandom(LIFE_BYTES)
        self.said: list[Message] = []
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.set(zmq.IMMEDIATE, 1)
        self.socket.connect(url)

    def hear(self) -> list[Message]:
        """What has come, waited for."""
        return codec.decode(self.socket.recv_multipart())

    def flush(self) -> None:
        """Say it."""
        if self.said:
            self.socket.send_multipart(codec.encode(self.said))
            self.said.clear()


def serve(url: str) -> None:
    """Claim what is asked, and answer with the very same."""
    peer, bodies, claims = Peer(url), dict[bytes, bytes](), 0
    life, said = peer.life, peer.said
    said.append(Ready(life, {"echo": CREDIT}, 1000))
    while True:
        peer.flush()
        for message in peer.hear():
            if type(message) is Request:
                claims += 1
                bodies[message.call_id] = message.body
                said.append(Claim(message.call_id, life, claims))
            elif type(message) is Grant:
                outcome = Outcome(reason="ok", executed="yes", result=bodies.pop(message.call_id))
                said.append(Final(message.call_id, life, message.claim, outcome))


def load(url: str, in_flight: int, seconds: float) -> None:
    """Ask, grant and settle."""
    peer, began, number = Peer(url), dict[bytes, float](), 0
    head, said, body = peer.life[:GATEWAY_BYTES], peer.said, b'{"text":"%b"}' % BODY.encode()
    flight: Flight | None = None

    def ask(now: float) -> None:
        nonlocal number
        number += 1
        call_id = head + number.to_bytes(8, "big")
        began[call_id] = now
        said.append(Request(call_id, "echo", "echo.echo", REMAINING_MS, "safe", "", "", 0, "no", "", body))

    said.append(Hello(peer.life))
    ask(time.perf_counter())
    while flight is None or not flight.ended:
        peer.flush()
        settled: dict[bytes, list[bytes]] = {}
        for message in peer.hear():
            if type(message) is Claim:
                said.append(Grant(message.call_id, message.life, message.claim, REMAINING_MS))
            elif type(message) is Final:
                settled.setdefault(message.life, []).append(message.call_id)
                asked_at = began.pop(message.call_id)
                if flight is None:
                    flight = Flight(seconds)
                    for _ in range(in_flight):
                        ask(time.perf_counter())
                else:
                    ask(flight.came(asked_at))
        said += [Settled(life, tuple(call_ids)) for life, call_ids in settled.items()]
    flight.report()


if __name__ == "__main__":
    serve(sys.argv[2]) if sys.argv[1] == "worker" else load(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]))
