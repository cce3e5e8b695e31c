"""Foreign workers and clients around a real gateway and broker, all in memory: frames go in, frames come out."""

import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homing import config
from homing.core.broker import Broker, BrokerLimits
from homing.core.calls import Calls
from homing.core.machine import Action, Draining, DrainTimedOut, Event, Peer, Received, Send
from homing.core.messages import Cancel, Ready, Reject, Request, Settled
from homing.core.neighbours import Neighbours
from homing.engines.memory import Memory
from homing.roles.gateway import Gateway
from homing.roles.machines import gateway_limits, principals_of
from homing.roles.majordomo import UNANSWERED_MAX, ForeignClients, ForeignWorkers
from homing.telemetry import Log, Metrics

GATEWAY, BROKER = b"gateway", b"broker"
W, V, C, D = b"worker", b"another worker", b"client", b"another client"
READY = [b"", b"MDPW01", b"\x01", b"echo"]
GOODBYE = [b"", b"MDPW01", b"\x05"]

HOUSE = """
[gateway]
anonymous = ["echo.*"]
body_max = "1KiB"

[principals.webshop]
api_key_hash = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
methods = ["shop.*"]
in_flight_max = 1

[methods."echo.say"]
service = "echo"
[methods."echo.say".params]
properties.times = { type = "integer" }

[methods."echo.safely"]
service = "echo"
effect = "safe"
params = {}

[methods."shop.sell"]
service = "echo"
params = {}
"""


class Town:
    """One gateway, one broker, and the strangers around them. `now` is moved by hand."""

    def __init__(self, folder: Path, *, workers_max: int = 10, reads: Callable[[Peer], bool] = lambda peer: True) -> None:
        (folder / "homing.toml").write_text(HOUSE)
        self.now = 1000.0
        settings_ = config.load(folder / "homing.toml")
        self.log = Log(os.open(folder / "log.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), human=False)
        self.station = Memory()
        self.calls = Calls(os.urandom(16))
        self.broker = Broker(os.urandom(16), BrokerLimits(no_worker_after_s=5.0))
        principals = principals_of(settings_)
        self.gateway = Gateway(
            self.calls,
            config.compile_methods(settings_),
            principals,
            gateway_limits(settings_),
            log=self.log,
            metrics=Metrics(),
        )
        self.gateway.feed = partial(self.feed, GATEWAY)
        self.station.attach(GATEWAY, self.calls, self.gateway.act)
        self.station.attach(BROKER, self.broker, lambda action: None)
        self.station.connect(BROKER, GATEWAY, self.now)
        self.said: list[tuple[Peer, list[bytes]]] = []
        self.reads = reads
        self.neighbours = Neighbours(
            lives=lambda: os.urandom(16), may_serve=lambda user, service: service == "echo", workers_max=workers_max
        )
        self.workers = ForeignWorkers(self.neighbours, BROKER, say=self.say, feed=self.feed, attach=self.station.attach)
        self.clients = ForeignClients(
            self.gateway,
            say=self.say,
            principal_of=principals.named,
            body_bytes_max=1024,
            held_bytes_max=3000,
        )

    def feed(self, address: Peer, event: Event) -> None:
        self.station.feed(address, event, self.now)

    def say(self, peer: Peer, frames: list[bytes]) -> bool:
        if self.reads(peer):
            self.said.append((peer, frames))
        return self.reads(peer)

    def passes(self, seconds: float) -> None:
        until = self.now + seconds
        while (due := self.station.next_deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            self.station.tick(self.now)
        self.now = until

    def heard(self) -> list[tuple[Peer, list[bytes]]]:
        said, self.said = self.said, []
        return said

    def ready(self, peer: Peer = W) -> None:
        assert self.workers.received(peer, READY, "")
        assert (peer, GOODBYE) not in self.said

    def ask(self, body: bytes = b"{}", *, method: bytes = b"echo.say", peer: Peer = C, user: str = "") -> None:
        assert self.clients.received(peer, [b"", b"MDPC01", method, body], user)

    def request(self, peer: Peer = W) -> tuple[bytes, bytes]:
        """The client's address and the body of what a worker was just asked."""
        ((to, frames),) = self.heard()
        assert to == peer
        assert frames[:3] == [b"", b"MDPW01", b"\x02"]
        assert frames[4] == b""
        return frames[3], frames[5]

    def reply(self, address: bytes, body: bytes, peer: Peer = W) -> None:
        assert self.workers.received(peer, [b"", b"MDPW01", b"\x03", address, b"", body], "")

    def answer(self, method: bytes = b"echo.say", peer: Peer = C) -> Any:
        ((to, frames),) = self.heard()
        assert (to, frames[:3]) == (peer, [b"", b"MDPC01", method])
        return json.loads(frames[3])


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Town]]:
    towns: list[Town] = []

    def build(**options: Any) -> Town:
        town = Town(tmp_path, **options)
        monkeypatch.setattr(time, "monotonic", lambda: town.now)
        towns.append(town)
        return town

    yield build
    for town in towns:
        town.log.close()


@pytest.fixture
def town(build: Callable[..., Town]) -> Town:
    return build()


def is_empty(town: Town) -> bool:
    return not (len(town.gateway) or len(town.calls) or len(town.broker) or len(town.clients) or town.clients.held_bytes)


# A client's request and a worker's answer


def test_a_request_comes_home(town: Town) -> None:
    town.ready()
    town.ask(b'{"text": "hello"}')
    address, body = town.request()
    assert body == b'{"text": "hello"}'
    assert len(address) == 16
    town.reply(address, b'{"text" :"olleh"}')
    assert town.heard() == [(C, [b"", b"MDPC01", b"echo.say", b'{"text" :"olleh"}'])]
    assert is_empty(town)


def test_a_client_and_a_worker_of_0_2(town: Town) -> None:
    town.workers.received(W, [b"MDPW02", b"\x01", b"echo"], "")
    town.clients.received(C, [b"MDPC02", b"\x01", b"echo.say", b"{}"], "")
    ((_, frames),) = town.heard()
    assert frames[:2] == [b"MDPW02", b"\x02"]
    town.workers.received(W, [b"MDPW02", b"\x03", frames[2], b"", b"[1,"], "")
    town.workers.received(W, [b"MDPW02", b"\x04", frames[2], b"", b"2]"], "")
    assert town.heard() == [(C, [b"MDPC02", b"\x03", b"echo.say", b"[1,2]"])]


def test_a_call_waits_for_the_worker_that_is_busy(town: Town) -> None:
    town.ready()
    town.ask(b'{"times":1}')
    first, _ = town.request()
    town.ask(b'{"times":2}', peer=D)
    assert not town.said
    town.reply(first, b"1")
    (_, answered), (_, asked) = sorted(town.heard())
    assert answered[-1] == b"1"
    assert asked[-1] == b'{"times":2}'
    town.reply(asked[3], b"2")
    assert town.answer(peer=D) == 2
    assert is_empty(town)


def test_requests_of_one_client_are_answered_as_they_end(town: Town) -> None:
    town.ready(W)
    town.ready(V)
    town.ask(b'{"times":1}')
    town.ask(b'{"times":2}')
    asked = {json.loads(frames[5])["times"]: (peer, frames[3]) for peer, frames in town.heard()}
    for times in (2, 1):
        peer, address = asked[times]
        town.reply(address, b"%d" % times, peer)
        assert town.answer() == times


def test_a_worker_that_dies_at_work_costs_its_call_and_nothing_else(town: Town) -> None:
    town.ready(W)
    town.ask()
    town.request()
    town.workers.lost(W)
    error = town.answer()
    assert (error["code"], error["data"]["reason"], error["data"]["executed"]) == (5050, "worker_lost", "unknown")
    town.ready(V)
    town.ask()
    town.request(V)


def test_and_a_safe_call_goes_to_another(town: Town) -> None:
    town.ready(W)
    town.ask(method=b"echo.safely")
    before, _ = town.request()
    town.ready(V)
    assert town.workers.received(W, GOODBYE, "")
    address, _ = town.request(V)
    assert address == before
    town.reply(before, b"1", W)
    assert town.heard() == [(W, GOODBYE)]  # too late, and it is a stranger by now
    town.reply(address, b"2", V)
    assert town.answer(b"echo.safely") == 2


def test_a_worker_that_cannot_be_asked_was_never_asked(build: Callable[..., Town]) -> None:
    deaf = {W}
    town = build(reads=lambda peer: peer not in deaf)
    town.ready(W)
    town.ask()
    assert not town.said
    assert len(town.neighbours) == 0
    town.ready(V)
    address, _ = town.request(V)  # a `once` call, for it had never begun
    town.reply(address, b"1", V)
    assert town.answer() == 1


def test_a_worker_that_is_gone_when_there_is_more_to_say_about_it(build: Callable[..., Town]) -> None:
    deaf: set[Peer] = set()
    town = build(reads=lambda peer: peer not in deaf)
    town.station.straight(Settled, GATEWAY, b"nowhere")  # so that its outcome is never seen
    town.ready(W)
    town.ask()
    address, _ = town.request()
    town.reply(address, b"1")
    assert town.answer() == 1
    deaf.add(W)
    town.now += 5.0  # a loop that stood still: heartbeat and outcome are due in one turn
    town.station.tick(town.now)
    assert len(town.neighbours) == 0
    assert town.neighbours.held_bytes == 0


def test_a_deadline_settles_what_a_worker_sits_on_and_leaves_it_busy(town: Town) -> None:
    town.ready()
    town.ask(b'{"_meta": {"homing": {"timeout": 1}}}')
    address, body = town.request()
    assert body == b"{}"
    town.passes(1.5)
    assert town.answer()["data"]["reason"] == "deadline_exceeded"
    town.ask(b'{"times":2}')
    assert not town.said
    town.reply(address, b"1")
    address, body = town.request()
    assert body == b'{"times":2}'
    town.reply(address, b"2")
    assert town.answer() == 2
    town.passes(3.0)
    assert is_empty(town)


def test_nobody_serves(town: Town) -> None:
    town.ask()
    town.passes(6.0)
    error = town.answer()
    assert (error["data"]["reason"], error["data"]["executed"]) == ("no_worker", "no")


def test_doors_are_used_again(town: Town) -> None:
    for _ in range(100):
        town.ready()
        town.workers.received(W, GOODBYE, "")
    assert town.workers._built == 1
    town.ready()
    town.ask()
    address, _ = town.request()
    town.reply(address, b"1")
    assert town.answer() == 1


def test_workers_are_beaten_to_and_forgotten(town: Town) -> None:
    town.ready()
    town.passes(30.0)
    beat = [b"", b"MDPW01", b"\x04"]
    assert town.heard() == [(W, beat), (W, beat), (W, GOODBYE)]
    assert len(town.neighbours) == 0


def test_a_process_that_goes_away_says_so(town: Town) -> None:
    town.ready(W)
    town.ready(V)
    town.ask()
    ((busy, frames),) = town.heard()
    town.feed(ForeignWorkers.ADDRESS, Draining())
    assert not town.said
    town.reply(frames[3], b"1", busy)
    assert town.answer() == 1
    town.feed(ForeignWorkers.ADDRESS, DrainTimedOut())
    assert sorted(town.heard()) == sorted([(W, GOODBYE), (V, GOODBYE)])


# What a client may not do


@pytest.mark.parametrize(
    ("method", "body", "reason"),
    [
        (b"echo.say", b"{", "parse_error"),
        (b"echo.say", b"7", "invalid_request"),
        (b"echo.say", b'{"times":"x"}', "invalid_params"),
        (b"echo.say", b'"' + b"x" * 1100 + b'"', "too_large"),
        (b"echo.none", b"{}", "method_not_found"),
        (b"shop.sell", b"{}", "unauthenticated"),
        (b"nothing", b"{}", "unauthenticated"),
    ],
)
def test_a_request_is_refused_as_over_http(town: Town, method: bytes, body: bytes, reason: str) -> None:
    town.ask(body, method=method)
    error = town.answer(method)
    assert (error["data"]["reason"], error["data"]["executed"]) == (reason, "no")
    assert len(error["data"]["call_id"]) == 32
    assert is_empty(town)


def test_who_a_client_is_its_key_says(town: Town) -> None:
    town.ready()
    town.ask(method=b"shop.sell", user="webshop")
    town.request()
    town.ask(method=b"shop.sell", user="webshop", peer=D)
    assert town.answer(b"shop.sell", peer=D)["data"]["limit"] == "principals.webshop.in_flight_max"


def test_a_client_may_have_so_many_requests_open(town: Town) -> None:
    for _ in range(UNANSWERED_MAX):
        town.ask()
    assert not town.said
    town.ask()
    assert town.answer()["data"]["reason"] == "overloaded"
    town.ask(peer=D)
    assert not town.said


def test_and_all_of_them_together_so_many_bytes(town: Town) -> None:
    for _ in range(3):
        town.ask(b'{"text":"%s"}' % (b"x" * 900))
    town.ask(b'{"text":"%s"}' % (b"x" * 900), peer=D)
    assert town.answer(peer=D)["data"]["limit"] == "gateway.held_bytes_max"


def test_who_goes_leaves_no_call_behind_that_has_not_begun(town: Town) -> None:
    town.ready()
    town.ask(b'{"times":1}')
    address, _ = town.request()
    town.ask(b'{"times":2}')
    town.clients.lost(C)
    assert len(town.gateway) == 1  # begun: it runs to its end
    town.reply(address, b"1")
    assert not town.said
    assert is_empty(town)
    town.clients.lost(C)


class Refuser:
    """A worker that takes one call at once, waits with it, and refuses the next one."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def handle(self, event: Event, now: float) -> list[Action]:
        message = event.message if isinstance(event, Received) else None
        if isinstance(message, Request):
            self.asked.append(message.call_id)
            return [] if len(self.asked) == 1 else [Send(BROKER, Reject(message.call_id, "refused", "rate_limited"))]
        return [Send(BROKER, Reject(message.call_id, "drop"))] if isinstance(message, Cancel) else []

    def next_deadline(self) -> None:
        return None


def test_and_none_that_is_settled_while_the_others_are_taken_back(town: Town) -> None:
    """The first call gives its place to the second, which is refused at once, when nobody waits for that one either."""
    worker = Refuser()
    town.station.attach(W, worker, lambda action: None)
    town.feed(BROKER, Received(W, Ready(os.urandom(16), {"echo": 1}, 0)))
    for _ in range(4):
        town.ask(b'{"text":"hello"}')
    assert len(worker.asked) == 1
    town.clients.lost(C)
    assert not town.said
    assert is_empty(town)
    assert town.clients.held_bytes == 0


def test_every_request_has_its_line_in_the_log(town: Town, tmp_path: Path) -> None:
    town.ready()
    town.ask()
    address, _ = town.request()
    town.reply(address, b"1")
    town.ask(b"{")
    town.log.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["method"], line["reason"]) for line in lines if "reason" in line] == [
        ("echo.say", "ok"),
        ("", "parse_error"),
    ]


# MMI


@pytest.mark.parametrize(
    ("service", "body", "user", "answer"),
    [
        (b"mmi.service", b"echo.say", "", b"200"),
        (b"mmi.service", b"echo.none", "", b"404"),
        (b"mmi.service", b"shop.sell", "", b"404"),
        (b"mmi.service", b"shop.sell", "webshop", b"200"),
        (b"mmi.service", b"", "", b"404"),
        (b"mmi.service", b"\xff", "webshop", b"404"),
        (b"mmi.workers", b"echo", "", b"501"),
        (b"mmi.", b"", "", b"501"),
    ],
)
def test_mmi(town: Town, service: bytes, body: bytes, user: str, answer: bytes) -> None:
    assert town.clients.received(C, [b"MDPC02", b"\x01", service, body], user)
    assert town.heard() == [(C, [b"MDPC02", b"\x03", service, answer])]
    assert is_empty(town)


# Anything at all


def test_what_is_not_theirs_is_left_to_others(town: Town) -> None:
    assert not town.workers.received(W, [b"", b"MDPC01", b"echo.say", b"{}"], "")
    assert not town.clients.received(C, READY, "")
    assert not town.heard()


words = st.sampled_from(
    [
        b"",
        b"MDPW01",
        b"MDPW02",
        b"MDPC01",
        b"MDPC02",
        b"echo",
        b"echo.say",
        b"mmi.service",
        b"{}",
        b"\x01",
        b"\x02",
        b"\x03",
        b"\x04",
    ]
)
peers = st.sampled_from([W, V, C])
steps = st.one_of(
    st.tuples(st.just("frames"), peers, st.lists(words | st.binary(max_size=4), max_size=7)),
    st.tuples(st.just("ask"), peers, st.just([])),
    st.tuples(st.just("ready"), peers, st.just([])),
    st.tuples(st.just("lost"), peers, st.just([])),
    st.tuples(st.just("reply"), peers, st.just([])),
    st.tuples(st.just("wait"), peers, st.just([])),
)


@given(st.lists(steps, max_size=40), st.sets(peers))
@settings(max_examples=60)
def test_nothing_that_strangers_do_stops_anything(tmp_path_factory: Any, todo: list[Any], deaf: set[bytes]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        town = Town(tmp_path_factory.mktemp("town"), workers_max=2, reads=lambda peer: peer not in deaf)
        patch.setattr(time, "monotonic", lambda: town.now)
        asked: dict[Peer, bytes] = {}
        try:
            for what, peer, frames in todo:
                if what == "frames":
                    town.workers.received(peer, frames, "")
                    town.clients.received(peer, frames, "")
                elif what == "ask":
                    town.ask(peer=peer)
                elif what == "ready":
                    town.workers.received(peer, READY, "")
                elif what == "lost":
                    town.workers.lost(peer)
                    town.clients.lost(peer)
                elif what == "wait":
                    town.passes(3.0)
                elif peer in asked:
                    town.reply(asked.pop(peer), b"1", peer)
                asked |= {to: said[3] for to, said in town.heard() if said[:3] == [b"", b"MDPW01", b"\x02"]}
            deaf.clear()
            for peer in (W, V, C):
                town.workers.lost(peer)
                town.clients.lost(peer)
            town.passes(200.0)
            assert is_empty(town)
            assert len(town.neighbours) == 0
            town.heard()
            town.ready()
            town.ask()
            address, _ = town.request()
            town.reply(address, b"1")
            assert town.answer() == 1
        finally:
            town.log.close()
