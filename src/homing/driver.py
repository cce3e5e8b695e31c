"""A machine on asyncio: events in, actions out, one timer."""

import asyncio
import time
from collections.abc import Callable

from homing.core.machine import Action, Event, Machine, Peer, Send, Tick
from homing.core.messages import Message


class Driver:
    """Feeds one machine, gives its messages to the engine (`send`, then `flush` once) and its other actions to `act`.

    The timer is set once a turn of the loop, however many events the turn brought; one that fires early is set again.
    """

    __slots__ = ("_act", "_address", "_arming", "_closed", "_flush", "_loop", "_send", "_timer", "_timer_at", "machine")

    def __init__(
        self,
        machine: Machine,
        address: Peer,
        send: Callable[[Peer, Peer, Message], None],
        flush: Callable[[], None],
        act: Callable[[Action], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.machine = machine
        self._address = address
        self._send = send
        self._flush = flush
        self._act = act
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._arming = False
        self._closed = False

    def feed(self, event: Event) -> None:
        """Take one event now. Actions are done before this returns, messages delivered or on their way."""
        if self._closed:
            return
        send = self._send
        for action in self.machine.handle(event, time.monotonic()):
            if type(action) is Send:
                send(self._address, action.peer, action.message)
            else:
                self._act(action)
        self._flush()
        if not self._arming:
            self._arming = True
            self._loop.call_soon(self._arm)

    def close(self) -> None:
        """Feed the machine nothing more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._arming = False
        if self._closed:
            return
        instant = self.machine.next_deadline()
        if instant is None or (self._timer is not None and self._timer_at <= instant):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = instant
        delay_s = max(0.0, instant - time.monotonic())
        self._timer = self._loop.call_later(delay_s, self._fire)

    def _fire(self) -> None:
        self._timer = None
        instant = self.machine.next_deadline()
        if instant is not None and instant <= time.monotonic():
            self.feed(Tick())
        else:
            self._arm()
