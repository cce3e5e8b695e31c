"""The way to brokers for `Client` and `AsyncClient`: the same errands, taken over ZeroMQ by an `Owner` instead of to a gateway.

`Client` has its owner on a thread of its own, with an event loop of its own; threads that call wait until it has the answer.
"""

import asyncio
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import Final, Self

import msgspec

from homing import curve as keys
from homing.client_owner import OWNER, Gathering, Owner
from homing.client_rpc import Errand
from homing.engines.zmq import FRAME_BYTES_MAX, CurveClient, Zmq
from homing.forms import is_local, parse_endpoint

PRINCIPAL_BYTES_MAX: Final = 256
JOIN_S: Final = 5.0

# A forked child has its parent's sockets and selectors, and must not even close them: the parent would feel it.
_LEFT_ALONE: list[object] = []


class Brokers(msgspec.Struct, frozen=True):
    """Which brokers a client dials, with which keys, and in whose name it calls."""

    endpoints: tuple[str, ...]
    curve: CurveClient | None = None
    principal: str = ""

    def __str__(self) -> str:
        return ",".join(self.endpoints)

    def owner_on(self, loop: asyncio.AbstractEventLoop) -> Owner:
        """Return a new owner on a loop, which dials from now on."""

        def dial() -> None:
            for endpoint in self.endpoints:
                station.dial(OWNER, endpoint, curve=self.curve)

        def warn(kind: str, sentence: str) -> None:
            if kind == "handshake":
                owner.trouble = sentence

        station = Zmq(loop, warn=warn)
        owner = Owner(station, loop, dial, principal=self.principal, frame_bytes_max=FRAME_BYTES_MAX)
        return owner


def brokers(
    url: str | Sequence[str],
    *,
    curve: str | os.PathLike[str] | None = None,
    broker_key: str | None = None,
    principal: str | None = None,
    insecure: bool = False,
) -> Brokers:
    """Read what a client is told about its brokers. Raises ValueError for what cannot work."""
    texts = [text.strip() for text in url.split(",")] if isinstance(url, str) else list(url)
    endpoints = tuple(dict.fromkeys(_endpoint(text) for text in texts))
    if not endpoints:
        raise ValueError("there is no broker in the list")
    if (curve is None) != (broker_key is None):
        missing = "broker_key, the broker's public key," if broker_key is None else "curve, the file with your own keys,"
        raise ValueError(f"{missing} is missing: to speak CURVE takes both")
    if curve is None and not insecure:
        for endpoint in endpoints:
            if not is_local(endpoint):
                raise ValueError(
                    f"{endpoint} is on another machine, and nothing would be encrypted: give curve= and broker_key=, "
                    "or insecure=True if that is meant"
                )
    principal = principal or ""
    if len(principal.encode()) > PRINCIPAL_BYTES_MAX:
        raise ValueError(f"a principal's name has at most {PRINCIPAL_BYTES_MAX} bytes")
    return Brokers(endpoints, _curve(curve, broker_key), principal)


def _endpoint(text: str) -> str:
    try:
        return parse_endpoint(text)
    except ValueError as error:
        said = f": {error}" if str(error) else ""
        raise ValueError(
            f"{text!r} is no broker's address, such as tcp://127.0.0.1:8372 or ipc:///run/broker.sock{said}"
        ) from None


def _curve(path: str | os.PathLike[str] | None, broker_key: str | None) -> CurveClient | None:
    if path is None or broker_key is None:
        return None
    if not keys.is_key(broker_key):
        raise ValueError(f"broker_key is the broker's public key, {keys.KEY_LENGTH} characters of Z85")
    own = keys.read_keys(path)
    return CurveClient(own.public_key.encode(), own.secret_key.encode(), broker_key.encode())


class _Background:
    """A thread with an event loop and an owner on it. What is posted happens there, in order."""

    def __init__(self, place: Brokers) -> None:
        self._place = place
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._problem: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="homing client", daemon=True)
        self.owner: Owner | None = None

    def start(self) -> Self:
        """Return when the owner is there. Raises what kept it from being made."""
        try:
            self._thread.start()
            self._ready.wait()
        except BaseException:  # Ctrl-C: nobody would ever stop it
            self.stop()
            raise
        if self._problem is not None:
            raise self._problem
        return self

    def post(self, act: Callable[[Owner], None]) -> None:
        """Have something done by the owner. Raises RuntimeError when it is gone."""
        self._loop.call_soon_threadsafe(self._do, act)

    def stop(self) -> None:
        """End the thread in order: everything settles. In a forked child there is no such thread."""
        if self._process != os.getpid():
            return
        with contextlib.suppress(RuntimeError):  # it has ended already
            self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(JOIN_S)

    def _run(self) -> None:
        try:
            self.owner = self._place.owner_on(self._loop)
        except BaseException as error:
            self._problem = error
            self._loop.close()
            self._ready.set()
            return
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:  # whatever ended it: whoever waits is answered
            self.owner.close()
            self._loop.close()

    def _do(self, act: Callable[[Owner], None]) -> None:
        assert self.owner is not None
        act(self.owner)


class BlockingBrokerLink:
    """Takes errands to brokers. Threads may share it; a forked child begins anew, with a thread and connections of its own."""

    def __init__(self, place: Brokers) -> None:
        self._place = place
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._background: _Background | None = None
        self._finalizer: weakref.finalize[[], BlockingBrokerLink] | None = None
        self._closed = False

    def close(self) -> None:
        """Settle what is under way, and end the thread."""
        self._look_for_a_fork()
        with self._lock:
            self._closed = True
            background, self._background = self._background, None
        if background is not None:
            if self._finalizer is not None:
                self._finalizer.detach()
            background.stop()

    def ask(self, errand: Errand) -> float | None:
        """Ask once; return after how many seconds to ask again. An exception (Ctrl-C) abandons what was asked on its way out."""
        self._look_for_a_fork()
        if self._closed and errand.asked:
            return None  # closed between two attempts: the last answer stands
        answered = threading.Event()
        gathering = Gathering(errand, time.monotonic(), answered.set)
        background: _Background | None = None
        try:
            with self._lock:  # so that nothing is posted after the stop
                background = self._begun()
                background.post(gathering.begin)
            answered.wait()
        except BaseException:
            if background is not None:
                with contextlib.suppress(RuntimeError):  # closed meanwhile, and all of it settled
                    background.post(lambda _: gathering.abandon())
            raise
        wait = errand.note(gathering.answers, time.monotonic())
        return None if self._closed else wait

    def _begun(self) -> _Background:
        if self._closed:
            raise RuntimeError("this client is closed")
        if self._background is None:
            self._background = _Background(self._place).start()
            self._finalizer = weakref.finalize(self, self._background.stop)
        return self._background

    def _look_for_a_fork(self) -> None:
        if self._process == os.getpid():
            return
        self._process = os.getpid()
        self._lock = threading.Lock()  # some thread of the parent's may hold the other one, and it is not here to let go
        if self._finalizer is not None:
            self._finalizer.detach()
        _LEFT_ALONE.append(self._background)
        self._background = self._finalizer = None


class AsyncBrokerLink:
    """Takes errands to brokers. Belongs to the event loop that uses it; a forked child begins anew, with connections of its own."""

    def __init__(self, place: Brokers) -> None:
        self._place = place
        self._process = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._owner: Owner | None = None
        self._closed = False

    async def close(self) -> None:
        """Settle what is under way, and hang up."""
        self._look_for_a_fork()
        self._closed = True
        owner, self._owner = self._owner, None
        if owner is not None and self._loop is asyncio.get_running_loop():
            owner.close()
        elif owner is not None:
            owner.forsake()

    async def sleep(self, seconds: float) -> None:
        """Wait before asking again."""
        await asyncio.sleep(seconds)

    async def ask(self, errand: Errand) -> float | None:
        """Ask once; return after how many seconds to ask again. Cancelling abandons what was asked."""
        if self._closed and errand.asked:
            return None
        loop = asyncio.get_running_loop()
        owner = self._owner_on(loop)
        answered: asyncio.Future[None] = loop.create_future()
        gathering = Gathering(errand, time.monotonic(), lambda: None if answered.done() else answered.set_result(None))
        try:
            gathering.begin(owner)
            await answered
        except BaseException:
            gathering.abandon()
            raise
        wait = errand.note(gathering.answers, time.monotonic())
        return None if self._closed else wait

    def _owner_on(self, loop: asyncio.AbstractEventLoop) -> Owner:
        self._look_for_a_fork()
        if self._closed:
            raise RuntimeError("this client is closed")
        if loop is not self._loop:
            if self._loop is not None and self._loop.is_running():
                raise RuntimeError("this client belongs to another event loop, which is running")
            owner, self._owner = self._owner, None
            if owner is not None:  # sockets do not outlive their loop
                owner.forsake()
            self._loop = loop
        if self._owner is None:
            self._owner = self._place.owner_on(loop)
        return self._owner

    def _look_for_a_fork(self) -> None:
        if self._process != os.getpid():
            self._process = os.getpid()
            _LEFT_ALONE.append((self._owner, self._loop))
            self._owner = self._loop = None
