"""Who takes part in the tests of the ZeroMQ engine: engines with machines that listen, and raw sockets that do as they like."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import zmq

from homing.core import codec
from homing.core.machine import Abandoned, Action, Expel, Peer, PeerFound, PeerLost, Send
from homing.core.messages import Disconnect, Message
from homing.engines.zmq import CurveClient, CurveServer, Zmq
from homing.engines.zmq_curve import new_keys
from homing.engines.zmq_router import Foreign
from tests.engines.conformance import Ears
from tests.loops import until

HERE = b"here"
ANYWHERE = "tcp://127.0.0.1:*"


class Party:
    """An engine with one machine that listens, at the address `HERE`."""

    def __init__(self, engine: Zmq) -> None:
        self.engine = engine
        self.ears = Ears()
        self.acted: list[Action] = []
        engine.attach(HERE, self.ears, self.acted.append)

    def bind(self, endpoint: str = ANYWHERE, *, curve: CurveServer | None = None, foreign: Foreign | None = None) -> str:
        return self.engine.bind(HERE, endpoint, curve=curve, foreign=foreign)

    def dial(self, endpoint: str, *, curve: CurveClient | None = None) -> Peer:
        return self.engine.dial(HERE, endpoint, curve=curve)

    def say(self, peer: Peer, *messages: Message) -> None:
        self.do(*(Send(peer, message) for message in messages))

    def do(self, *actions: Send | Expel) -> None:
        self.ears.to_say += actions
        self.engine.tell(HERE, Abandoned(b""))

    @property
    def heard(self) -> list[Message]:
        return self.ears.messages()

    @property
    def found(self) -> list[Peer]:
        return [event.peer for event in self.ears.heard if isinstance(event, PeerFound)]

    @property
    def lost(self) -> list[Peer]:
        return [event.peer for event in self.ears.heard if isinstance(event, PeerLost)]


@asynccontextmanager
async def party(**options: object) -> AsyncIterator[Party]:
    engine = Zmq(asyncio.get_running_loop(), **options)  # type: ignore[arg-type]
    try:
        yield Party(engine)
    finally:
        engine.close(0.0)


@asynccontextmanager
async def couple(**options: object) -> AsyncIterator[tuple[Party, Party, Peer, Peer]]:
    """A broker, one that has dialled it, the broker's address there, and its address at the broker."""
    async with party(**options) as broker, party() as worker:
        there = worker.dial(broker.bind())
        await until(lambda: worker.found)
        here = await met(broker, worker, there)
        yield broker, worker, there, here


async def met(broker: Party, worker: Party, there: Peer) -> Peer:
    """The broker's address for one that has dialled it: known once it has spoken."""
    count = len(broker.found)
    worker.say(there, Disconnect())
    await until(lambda: len(broker.found) > count and Disconnect() in broker.heard)
    return broker.found[-1]


@contextmanager
def raw(endpoint: str, kind: int = zmq.DEALER, **options: object) -> Iterator[zmq.Socket[bytes]]:
    """A socket of somebody else, in a context of its own: what it does is up to the test."""
    with zmq.Context() as context, context.socket(kind) as opened:
        opened.setsockopt(zmq.LINGER, 0)
        for name, value in options.items():
            setattr(opened, name, value)
        opened.connect(endpoint)
        yield opened


def say_raw(sender: zmq.Socket[bytes], *messages: Message) -> None:
    sender.send_multipart(codec.encode(messages), zmq.DONTWAIT)


def hear_raw(receiver: zmq.Socket[bytes]) -> list[bytes] | None:
    return receiver.recv_multipart(zmq.DONTWAIT) if receiver.poll(0) else None


class Keys:
    """A pair for CURVE."""

    def __init__(self) -> None:
        public, secret = new_keys()
        self.public, self.secret = public.encode(), secret.encode()

    def to(self, server: bytes) -> CurveClient:
        return CurveClient(self.public, self.secret, server)

    def letting_in(self, **users: "Keys") -> CurveServer:
        return CurveServer(self.secret, {keys.public: name for name, keys in users.items()})
