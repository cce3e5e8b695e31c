"""The way to the gateway for `AsyncClient`: a bare Protocol on asyncio (or uvloop), a pool, and a clock over every step."""

import asyncio
import contextlib
import os
import select
import socket
import time
from typing import TYPE_CHECKING, Final, cast

from homing.client_blocking import IDLE_MAX_S, Address, Found, look_up, look_up_aside, poll, prepare
from homing.client_http import Endpoint, Fault, ResponseReader, is_address, late, lost, out_of_time, unreachable
from homing.client_rpc import Ending, Errand

if TYPE_CHECKING:
    import ssl

_NO_TIME: Final = 0.001  # asyncio takes zero for "no limit" in one place and for "now" in another


class Conversation(asyncio.Protocol):
    """One connection, and the request that is under way on it, if there is one. Its ending is set once, whatever happens."""

    transport: asyncio.Transport

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._errand: Errand | None = None
        self._ending: asyncio.Future[Ending] | None = None
        self._reader = ResponseReader()
        self._sent_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.idle_since = 0.0

    def ask(self, errand: Errand, request: bytes, sent_at: float) -> "asyncio.Future[Ending]":
        """Write a request. From here on a byte of it may have left."""
        self._errand, self._sent_at = errand, sent_at
        self._reader = ResponseReader()
        self._ending = self.loop.create_future()
        self.transport.write(request)
        self._look_at_the_clock()
        return self._ending

    def leave(self) -> bool:
        """End the exchange; return whether the connection may be kept. If not, it is closed at once, whatever is under way."""
        if self._timer is not None:
            self._timer.cancel()
        self._errand = self._ending = self._timer = None
        if self._reader.reusable and self.transport.get_write_buffer_size() == 0 and not self.transport.is_closing():
            self.idle_since = time.monotonic()
            return True
        self.transport.abort()
        return False

    def spent(self) -> bool:
        """Whether the connection should not be used again: it was idle for long, it ended, or it has something to say unasked."""
        if time.monotonic() - self.idle_since >= IDLE_MAX_S or self.transport.is_closing():
            return True
        return poll(self.transport.get_extra_info("socket").fileno(), select.POLLIN, 0.0)  # what the loop has yet to see

    def _look_at_the_clock(self) -> None:
        if self._errand is None or self._ending is None or self._ending.done():
            return
        left = self._errand.give_up_at(self._reader, self._sent_at) - time.monotonic()
        if left <= 0:
            self._end(late(sent=True))
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(left, self._look_at_the_clock)

    def _end(self, fault: Fault | None) -> None:
        if self._ending is not None and not self._ending.done():
            self._ending.set_result(Ending(reader=self._reader, fault=fault))

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._ending is None or self._ending.done():
            self.transport.abort()  # it belongs to no call
            return
        headless = not self._reader.status
        try:
            self._reader.feed(data)
        except Fault as fault:
            self._end(fault)
            return
        if self._reader.complete:
            self._end(None)
        elif headless and self._reader.status:
            self._look_at_the_clock()  # the head may say which timeout was granted

    def eof_received(self) -> None:
        self._end(None if self._reader.end() else lost(None))

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(None if exc is None and self._reader.end() else lost(exc))


class AsyncLink:
    """Takes errands to one gateway, one connection each. Belongs to the event loop that uses it; a forked child begins anew."""

    def __init__(self, place: Endpoint, head: bytes, *, tls: "ssl.SSLContext | None", connect_timeout: float) -> None:
        self._place = place
        self._head = head
        self._tls = tls
        self._connect_timeout = connect_timeout
        self._idle: list[Conversation] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._looking: asyncio.Future[list[Found] | OSError] | None = None
        self._closed = False

    async def close(self) -> None:
        """Close what is idle; a connection in use is closed when its exchange ends."""
        self._closed = True
        if self._loop is asyncio.get_running_loop():
            self._drop_idle(0.0)
            await asyncio.sleep(0)  # the loop closes them in its next turn
        else:
            self._forget()

    async def sleep(self, seconds: float) -> None:
        """Wait before asking again."""
        await asyncio.sleep(seconds)

    async def ask(self, errand: Errand) -> float | None:
        """Ask once, and note the answers; return after how many seconds to ask again."""
        if self._closed and errand.asked:
            return None  # closed between two attempts: the last answers stand
        return errand.take(await self.exchange(errand), time.monotonic())

    async def exchange(self, errand: Errand) -> Ending:
        """Ask once. What the network does is in the ending; cancelling closes the connection."""
        if self._closed:
            raise RuntimeError("this client is closed")
        loop = asyncio.get_running_loop()
        self._move(loop)
        body = errand.body()
        try:
            conversation = self._take() or await self._connect(loop, errand.until)
        except Fault as fault:
            return Ending(fault=fault)
        try:
            if conversation.transport.is_closing():
                return Ending(fault=unreachable(self._place, ConnectionResetError("the connection ended at once")))
            sent_at = time.monotonic()
            head = b"%s%sContent-Length: %d\r\n\r\n" % (self._head, errand.fields(sent_at), len(body))
            return await conversation.ask(errand, head + body, sent_at)
        except Fault as fault:
            return Ending(fault=fault)
        finally:
            if conversation.leave():
                self._keep(conversation)

    def _move(self, loop: asyncio.AbstractEventLoop) -> None:
        """Be on this loop from now on. Raises RuntimeError while another one is at it: connections cannot be shared."""
        if self._process != os.getpid():  # the parent goes on with all of it
            self._process, self._loop, self._idle = os.getpid(), None, []
        if loop is not self._loop:
            if self._loop is not None and self._loop.is_running():
                raise RuntimeError("this client belongs to another event loop, which is running")
            self._forget()
            self._loop, self._looking = loop, None

    def _forget(self) -> None:
        """Leave what is idle to the loop that it is on."""
        idle, self._idle = self._idle, []
        for conversation in idle:
            with contextlib.suppress(RuntimeError):  # that loop is closed
                conversation.loop.call_soon_threadsafe(conversation.transport.abort)

    def _keep(self, conversation: Conversation) -> None:
        self._idle.append(conversation)
        self._drop_idle(0.0 if self._closed else IDLE_MAX_S)

    def _drop_idle(self, longer_than: float) -> None:
        now = time.monotonic()
        while self._idle and now - self._idle[0].idle_since >= longer_than:
            self._idle.pop(0).transport.abort()

    def _take(self) -> Conversation | None:
        while self._idle:
            conversation = self._idle.pop()
            if not conversation.spent():
                return conversation
            conversation.transport.abort()
        return None

    async def _connect(self, loop: asyncio.AbstractEventLoop, until: float) -> Conversation:
        """Open a connection to the first address that takes one. Raises Fault."""
        why: OSError | None = None
        try:
            for family, address in await self._resolve(loop, until):
                try:
                    return await self._open(loop, family, address, until)
                except OSError as error:
                    why = error
                    if time.monotonic() >= until:
                        break
        except OSError as error:
            why = error
        if time.monotonic() >= until:
            raise out_of_time()
        raise unreachable(self._place, why or OSError("its name has no address"))

    async def _resolve(self, loop: asyncio.AbstractEventLoop, until: float) -> list[Found]:
        """Look the host up, once for all who wait. Raises OSError."""
        place = self._place
        if is_address(place.host):
            return look_up(place.host, place.port, socket.AI_NUMERICHOST)
        if self._looking is None or self._looking.done():
            looking = self._looking = loop.create_future()

            def found(answer: list[Found] | OSError) -> None:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(looking.set_result, answer)

            look_up_aside(place.host, place.port, found)
        async with asyncio.timeout(self._step(until)):
            answer = await asyncio.shield(self._looking)
        if isinstance(answer, OSError):
            raise answer
        return answer

    def _step(self, until: float) -> float:
        return max(min(until - time.monotonic(), self._connect_timeout), _NO_TIME)

    async def _open(
        self, loop: asyncio.AbstractEventLoop, family: socket.AddressFamily, address: Address, until: float
    ) -> Conversation:
        """Connect, and shake hands where it is TLS. Raises OSError."""
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            async with asyncio.timeout(self._step(until)):
                await loop.sock_connect(sock, address)
            prepare(sock)
        except BaseException:
            sock.close()
            raise
        step = self._step(until)
        async with asyncio.timeout(step):
            # The loop's own limit on a handshake is 60 s, which nobody asked for: ours comes first.
            limit = step + 1.0 if self._tls is not None else None
            name = self._place.host if self._tls is not None else None
            _, conversation = await loop.create_connection(
                lambda: Conversation(loop), sock=sock, ssl=self._tls, server_hostname=name, ssl_handshake_timeout=limit
            )
        return conversation
