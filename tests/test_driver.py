"""A station on asyncio: it is told what happens and the time, and one timer wakes it."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from homing.core.machine import Event, Peer, PeerFound, PeerLost
from homing.driver import SOONEST_S, Driver
from tests.loops import on_both_loops, until

HERE, THERE = b"here", b"there"
FOUND = PeerFound(THERE)


class Clock:
    """A loop with a clock that only the test moves, and no sockets: what the driver asks of a loop, and no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        self.soon: list = []
        self.timers: list[Timer] = []
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def call_soon(self, callback) -> None:
        self.soon.append(callback)

    def call_later(self, delay_s: float, callback) -> "Timer":
        timer = Timer(self.now + delay_s, callback)
        self.timers.append(timer)
        return timer

    def turn(self) -> int:
        """One turn of the loop; how many callbacks it had."""
        soon, self.soon = self.soon, []
        for callback in soon:
            callback()
        return len(soon)

    def set_timers(self) -> list[float]:
        return [timer.when for timer in self.timers if not timer.over]

    def fire(self, early_s: float = 0.0) -> None:
        """Move the clock to the next timer, or a little less far, and let it go off."""
        (timer,) = [timer for timer in self.timers if not timer.over]
        self.now = timer.when - early_s
        timer.over = True
        timer.callback()


class Timer:
    def __init__(self, when: float, callback) -> None:
        self.when = when
        self.callback = callback
        self.over = False

    def cancel(self) -> None:
        self.over = True


class Station:
    def __init__(self) -> None:
        self.deadline: float | None = None
        self.fed: list[tuple[Peer, Event, float]] = []
        self.ticks: list[float] = []
        self.after_tick: Callable[[], None] = lambda: None

    def feed(self, address: Peer, event: Event, now: float) -> None:
        self.fed.append((address, event, now))

    def tick(self, now: float) -> None:
        if self.deadline is not None and self.deadline <= now:
            self.deadline = None
            self.ticks.append(now)
            self.after_tick()

    def next_deadline(self) -> float | None:
        return self.deadline


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def station() -> Station:
    return Station()


@pytest.fixture
def driver(station: Station, clock: Any) -> Driver:
    return Driver(station, clock)


def test_an_event_is_taken_at_once_with_the_time(driver: Driver, station: Station) -> None:
    driver.feed(HERE, FOUND)
    assert station.fed == [(HERE, FOUND, 100.0)]


def test_several_events_at_once_are_taken_in_their_order_at_one_instant(driver: Driver, station: Station, clock: Clock) -> None:
    driver.feed(HERE, FOUND, PeerLost(THERE))
    assert station.fed == [(HERE, FOUND, 100.0), (HERE, PeerLost(THERE), 100.0)]
    assert clock.turn() == 1


def test_the_timer_is_set_once_a_turn_however_many_events_it_brought(driver: Driver, station: Station, clock: Clock) -> None:
    station.deadline = 105.0
    for _ in range(5):
        driver.feed(HERE, FOUND)
    assert clock.set_timers() == []
    assert clock.turn() == 1
    assert clock.set_timers() == [105.0]
    assert clock.turn() == 0


def test_at_the_deadline_the_station_is_ticked(driver: Driver, station: Station, clock: Clock) -> None:
    station.deadline = 105.0
    driver.feed(HERE, FOUND)
    clock.turn()
    clock.fire()
    assert station.ticks == [105.0]
    assert clock.set_timers() == []


def test_after_a_tick_the_next_deadline_is_waited_for(driver: Driver, station: Station, clock: Clock) -> None:
    station.deadline = 105.0
    driver.feed(HERE, FOUND)
    clock.turn()
    station.after_tick = lambda: setattr(station, "deadline", 110.0)
    clock.fire()
    assert clock.set_timers() == [110.0]


def test_a_timer_that_fires_early_is_set_again(driver: Driver, station: Station, clock: Clock) -> None:
    station.deadline = 105.0
    driver.feed(HERE, FOUND)
    clock.turn()
    clock.fire(early_s=0.001)
    assert station.ticks == []
    assert clock.set_timers() == [pytest.approx(105.0)]
    clock.fire()
    assert station.ticks == [pytest.approx(105.0)]


def test_an_earlier_deadline_moves_the_timer(driver: Driver, station: Station, clock: Clock) -> None:
    station.deadline = 105.0
    driver.feed(HERE, FOUND)
    clock.turn()
    station.deadline = 102.0
    driver.feed(HERE, FOUND)
    clock.turn()
    assert clock.set_timers() == [102.0]


def test_a_later_deadline_leaves_the_timer_alone(driver: Driver, station: Station, clock: Clock) -> None:
    """Most calls settle long before their deadline: it costs one early tick, and not a timer a call."""
    station.deadline = 105.0
    driver.feed(HERE, FOUND)
    clock.turn()
    station.deadline = 109.0
    driver.feed(HERE, FOUND)
    clock.turn()
    assert clock.set_timers() == [105.0]
    clock.fire()
    assert station.ticks == []
    assert clock.set_timers() == [109.0]


def test_without_a_deadline_there_is_no_timer(driver: Driver, station: Station, clock: Clock) -> None:
    driver.feed(HERE, FOUND)
    clock.turn()
    assert clock.set_timers() == []


def test_a_deadline_that_is_nearer_than_loops_can_count_is_not_looked_at_over_and_over(
    driver: Driver, station: Station, clock: Clock
) -> None:
    station.deadline = 100.0001
    driver.feed(HERE, FOUND)
    clock.turn()
    assert clock.set_timers() == [100.0 + SOONEST_S]


def test_a_deadline_that_has_passed_is_due_at_once(driver: Driver, station: Station, clock: Clock) -> None:
    station.deadline = 90.0
    driver.feed(HERE, FOUND)
    clock.turn()
    assert clock.set_timers() == [100.0]


def test_a_closed_driver_tells_the_station_nothing(driver: Driver, station: Station, clock: Clock) -> None:
    station.deadline = 105.0
    driver.feed(HERE, FOUND)
    clock.turn()
    driver.close()
    driver.feed(HERE, FOUND)
    assert len(station.fed) == 1
    assert clock.set_timers() == []
    assert clock.turn() == 0


def test_a_driver_closed_within_the_turn_sets_no_timer(driver: Driver, station: Station, clock: Clock) -> None:
    station.deadline = 105.0
    driver.feed(HERE, FOUND)
    driver.close()
    clock.turn()
    assert clock.set_timers() == []


def test_a_timer_that_goes_off_while_the_driver_closes_ticks_nobody(driver: Driver, station: Station, clock: Clock) -> None:
    station.deadline = 105.0
    driver.feed(HERE, FOUND)
    clock.turn()
    (timer,) = clock.timers
    driver.close()
    timer.callback()
    assert station.ticks == []


def test_a_station_that_closes_its_driver_while_it_ticks_is_left_alone(driver: Driver, station: Station, clock: Clock) -> None:
    station.deadline = 105.0
    driver.feed(HERE, FOUND)
    clock.turn()
    station.after_tick = driver.close
    clock.fire()
    assert clock.set_timers() == []


def test_a_fault_of_the_station_stops_neither_the_time_nor_the_other_events(
    driver: Driver, station: Station, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    station.deadline = 105.0
    taken: list[Event] = []

    def feed(address: Peer, event: Event, now: float) -> None:
        taken.append(event)
        if event is FOUND:
            raise RuntimeError("a fault of the station")

    monkeypatch.setattr(station, "feed", feed)
    with pytest.raises(RuntimeError, match="of the station"):
        driver.feed(HERE, FOUND, PeerLost(THERE))
    assert taken == [FOUND, PeerLost(THERE)]
    clock.turn()
    assert clock.set_timers() == [105.0]


def test_a_fault_while_the_station_is_ticked_does_not_stop_the_time(driver: Driver, station: Station, clock: Clock) -> None:
    station.deadline = 105.0
    driver.feed(HERE, FOUND)
    clock.turn()

    def fail() -> None:
        station.deadline = 110.0
        raise RuntimeError("a fault of the station")

    station.after_tick = fail
    with pytest.raises(RuntimeError, match="of the station"):
        clock.fire()
    assert clock.set_timers() == [110.0]


@on_both_loops
async def test_on_a_real_loop_a_tick_comes_and_never_early() -> None:
    station = Station()
    due = station.deadline = time.monotonic() + 0.01
    driver = Driver(station, asyncio.get_running_loop())
    driver.feed(HERE, FOUND)
    await until(lambda: station.ticks)
    driver.close()
    assert station.ticks[0] >= due
