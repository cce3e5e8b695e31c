"""Machines on asyncio: events in, actions out, one timer."""

import asyncio
import time
from typing import Protocol

from homing.core.machine import Event, Peer


class Station(Protocol):
    """Machines and the engine that carries their messages, as far as the driver sees them. Time is an argument."""

    def feed(self, address: Peer, event: Event, now: float) -> None:
        """Give an event to the machine at `address` and see to everything that comes of it."""
        ...

    def tick(self, now: float) -> None:
        """Tell the machines whose deadline has passed."""
        ...

    def next_deadline(self) -> float | None:
        """When `tick` is due."""
        ...


SOONEST_S = 0.001  # loops count in milliseconds from when their turn began: less would fire early, over and over


class Driver:
    """Tells a station what happens, and the time.

    The timer is set once a turn of the loop, however many events the turn brought; one that fires early is set again.
    """

    __slots__ = ("_arming", "_closed", "_loop", "_station", "_timer", "_timer_at")

    def __init__(self, station: Station, loop: asyncio.AbstractEventLoop) -> None:
        self._station = station
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._arming = False
        self._closed = False

    def feed(self, address: Peer, /, *events: Event) -> None:
        """Take one event now, or some. Their actions are done before this returns, messages delivered or on their way.

        Whatever the station raises goes through, the first of it, once the other events are taken.
        """
        if self._closed:
            return
        now, feed = time.monotonic(), self._station.feed
        fault: Exception | None = None
        for event in events:
            try:
                feed(address, event, now)
            except Exception as error:
                fault = fault or error
        if not self._arming:
            self._arming = True
            self._loop.call_soon(self._arm)
        if fault is not None:
            raise fault

    def close(self) -> None:
        """Tell the station nothing more."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._arming = False
        if self._closed:
            return
        instant = self._station.next_deadline()
        if instant is None or (self._timer is not None and self._timer_at <= instant):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = instant
        wait_s = instant - time.monotonic()
        self._timer = self._loop.call_later(max(SOONEST_S, wait_s) if wait_s > 0 else 0.0, self._fire)

    def _fire(self) -> None:
        self._timer = None
        if self._closed:
            return
        try:
            self._station.tick(time.monotonic())
        finally:  # whatever was raised: all other calls still have their deadlines
            self._arm()
