"""client_zmq: `Client` and `AsyncClient` over real sockets to real brokers and workers; every shared promise on both."""

import asyncio
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from homing import AsyncClient, Client, Executed, NotExecuted, OutcomeUnknown
from homing.client_owner import Owner
from homing.client_zmq import AsyncBrokerLink, BlockingBrokerLink, Brokers, brokers
from homing.core.broker import BrokerLimits
from homing.core.messages import MethodOffer
from homing.core.permits import Permit
from homing.engines.zmq import CurveClient, CurveServer
from homing.errors import Outcome, failure
from tests.broker_host import Host
from tests.brokers import Answers, ok
from tests.loops import on_both_loops
from tests.scripted_gateway import Either, free_port
from tests.test_curve import PUBLIC, SECRET

KINDS = ["blocking", "asyncio"]
SAFE: dict[str, Any] = {"service": "acme", "effect": "safe"}
ONCE: dict[str, Any] = {"service": "acme", "effect": "once"}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@contextmanager
def joined(kind: str, answers=None, *, retries: int = 0, **options: Any) -> Iterator[tuple[Either, Host]]:
    with Host(answers, **options) as host, Either(kind, host.url, retries=retries) as client:
        yield client, host


def link_of(client: Client) -> BlockingBrokerLink:
    assert isinstance(client._link, BlockingBrokerLink)
    return client._link


def owner_of(client: Client) -> Owner:
    background = link_of(client)._background
    assert background is not None
    assert background.owner is not None
    return background.owner


# What works and what cannot


def test_a_call_brings_home_its_result(kind: str) -> None:
    with joined(kind, {"acme.charge": ok(b'{"charge":7}')}) as (client, host):
        assert client.call("acme.charge", {"amount": 1200}, timeout=30, idempotency_key="order-17") == {"charge": 7}
        (start,) = host.provider.started
        assert (start.method, start.body, start.key, start.effect) == ("acme.charge", b'{"amount":1200}', "order-17", "once")
        assert start.deadline <= time.monotonic() + 30


def test_numbers_and_types_survive(kind: str) -> None:
    class Charge(msgspec.Struct):
        id: str
        amount: float

    numbers = {"big": 2**200 + 1, "negative": -(10**40), "float": 0.1}
    answers = {"acme.echo": lambda start: ok(start.body), "acme.charge": ok(b'{"id":"ch_1", "amount":1E2}')}
    with joined(kind, answers) as (client, _):
        assert client.call("acme.echo", numbers) == numbers
        assert client.call("acme.charge", result_type=Charge) == Charge("ch_1", 100.0)
        assert bytes(client.call("acme.charge", result_type=msgspec.Raw)) == b'{"id":"ch_1", "amount":1E2}'
        caught = client.error("acme.charge", result_type=int)
    assert isinstance(caught, Executed)
    assert (caught.reason, caught.code, caught.retry, caught.body) == (
        "response_invalid",
        5022,
        "unsafe",
        '{"id":"ch_1", "amount":1E2}',
    )


@pytest.mark.parametrize(
    ("method", "params", "options", "wrong"),
    [
        ("m", 7, {}, TypeError),
        ("m", {"x": float("nan")}, {}, ValueError),
        ("m", {"x": "\ud800"}, {}, ValueError),
        (b"m", None, {}, TypeError),
        ("m", None, {"idempotency_key": 17}, TypeError),
        ("m", None, {"timeout": 0}, ValueError),
        ("m", None, {"retries": -1}, ValueError),
        ("m", None, {"service": 7}, TypeError),
        ("m", None, {"service": "\ud800"}, ValueError),
        ("m", None, {"service": ""}, ValueError),
        ("m", None, {"service": "s" * 257}, ValueError),
        ("m", None, {"effect": "twice"}, ValueError),
    ],
)
def test_what_cannot_be_asked_is_said_before_anything_is_sent(kind: str, method, params, options, wrong) -> None:
    with Either(kind, "tcp://127.0.0.1:1") as client, pytest.raises(wrong):
        client.call(method, params, **options)


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("tcp://127.0.0.1", {}, "no broker's address"),
        ("tcp://127.0.0.1:99999", {}, "no broker's address"),
        ("tcp://127.0.0.1:0", {}, "port 0"),
        ("tcp://*:8372", {}, "no broker's address"),
        ("ipc://", {}, "the path is missing"),
        ("tcp://127.0.0.1:1,http://127.0.0.1:2", {}, "'http://127.0.0.1:2' is no broker's address"),
        (["tcp://127.0.0.1:1", "http://127.0.0.1:2"], {}, "no broker's address"),
        (["http://127.0.0.1:2"], {}, "no broker's address"),
        ([], {}, "no broker"),
        ("tcp://10.0.0.5:8372", {}, "nothing would be encrypted"),
        ("tcp://broker.example:8372", {}, "nothing would be encrypted"),
        ("tcp://127.0.0.1:1", {"api_key": "hk_1"}, "api_key is for gateways"),
        ("tcp://127.0.0.1:1", {"ca": "ca.pem"}, "not https"),
        ("tcp://127.0.0.1:1", {"curve": "keys.toml"}, "broker_key.* is missing"),
        ("tcp://127.0.0.1:1", {"broker_key": PUBLIC}, "curve.* is missing"),
        ("tcp://127.0.0.1:1", {"curve": "keys.toml", "broker_key": "short"}, "40 characters"),
        ("tcp://127.0.0.1:1", {"curve": "none.toml", "broker_key": PUBLIC}, "none.toml cannot be read"),
        ("tcp://127.0.0.1:1", {"principal": "p" * 257}, "256 bytes"),
        ("tcp://127.0.0.1:1", {"principal": "\ud800"}, "surrogates"),
        ("tcp://127.0.0.1:1", {"timeout": 0}, "timeout"),
        ("tcp://127.0.0.1:1", {"retries": -1}, "retries"),
        ("tcp://127.0.0.1:1", {"connect_timeout": 0}, "connect_timeout"),
        ("http://127.0.0.1:1", {"curve": "keys.toml"}, "curve is for brokers"),
        ("http://127.0.0.1:1", {"broker_key": PUBLIC}, "broker_key is for brokers"),
        ("http://127.0.0.1:1", {"principal": "webshop"}, "principal is for brokers"),
        ("http://127.0.0.1:1", {"insecure": True}, "insecure is for brokers"),
    ],
)
def test_what_cannot_work_is_said_at_once(client, url, options, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        client(url, **options)


def test_a_gateway_is_told_no_service_and_no_effect(kind: str) -> None:
    with Either(kind, f"http://127.0.0.1:{free_port()}") as client:
        for options in ({"service": "acme"}, {"effect": "safe"}):
            with pytest.raises(ValueError, match="are for brokers"):
                client.call("m", **options)


def test_a_client_shows_where_it_calls_and_no_key(tmp_path) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(f'public_key = "{PUBLIC}"\nsecret_key = "{SECRET}"\n')
    path.chmod(0o600)
    assert repr(Client("tcp://127.0.0.1:1, ipc:///run/b.sock")) == "Client('tcp://127.0.0.1:1,ipc:///run/b.sock')"
    assert repr(AsyncClient(["tcp://127.0.0.1:1", "tcp://127.0.0.1:1"])) == "AsyncClient('tcp://127.0.0.1:1')"
    told = brokers("tcp://10.0.0.5:1", curve=path, broker_key=PUBLIC, principal="webshop")
    assert told == Brokers(
        ("tcp://10.0.0.5:1",), CurveClient(PUBLIC.encode(), SECRET.encode(), PUBLIC.encode()), principal="webshop"
    )
    assert SECRET not in repr(told)
    assert brokers("tcp://10.0.0.5:1", insecure=True).curve is None


def test_the_environment_says_where(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Host({"acme.charge": ok()}) as host:
        monkeypatch.setenv("HOMING_URL", host.url)
        monkeypatch.setenv("HOMING_API_KEY", "hk_of_some_gateway")
        with Either(kind, None) as client:
            assert client.call("acme.charge") == "done"


def test_over_a_path_of_this_machine(kind: str, tmp_path) -> None:
    with Host({"acme.charge": ok()}, brokers=0) as host:
        host.endpoints.append(f"ipc://{tmp_path}/b.sock")
        host.start_broker()
        host.kill_worker()
        host.start_worker()
        with Either(kind, host.url) as client:
            assert client.call("acme.charge") == "done"


def test_a_closed_client_makes_no_calls(kind: str) -> None:
    with joined(kind, {"acme.charge": ok()}) as (client, host):
        client.call("acme.charge")
        client.close()
        client.close()
        with pytest.raises(RuntimeError, match="closed"):
            client.call("acme.charge")
        assert len(host.provider.started) == 1


def test_a_client_that_was_never_used_has_nothing_to_close(kind: str) -> None:
    before = threading.active_count()
    with Either(kind, "tcp://127.0.0.1:1"):
        assert threading.active_count() == before


# What an answer proves


def test_an_error_arrives_with_all_it_says(kind: str) -> None:
    said = Outcome(
        reason="provider_failed",
        executed="unknown",
        message="The provider failed.",
        status=500,
        body=b'{"message":"oops"}',
    )
    with joined(kind, {"acme.charge": said}, offers=()) as (client, _):
        caught = client.error("acme.charge", idempotency_key="order-17", effect="keyed", timeout=5)
        other = client.error("acme.charge", **ONCE)
    assert isinstance(caught, OutcomeUnknown)
    assert (caught.code, caught.message, caught.reason) == (5024, "The provider failed.", "provider_failed")
    assert (caught.executed, caught.retry, caught.retry_after) == ("unknown", "same_key", None)
    assert (caught.status, caught.body) == (500, {"message": "oops"})
    assert len(caught.call_id or "") == 32
    assert caught.idempotency_key == "order-17"
    attempt = caught.attempts[-1]
    assert isinstance(attempt, dict)
    assert isinstance(caught.data, dict)
    assert (attempt["provider"], attempt["reason"], attempt["executed"]) == ("acme", "provider_failed", "unknown")
    assert 0 < caught.data["timeout_ms"] <= 5000
    assert (other.retry, other.call_id == caught.call_id) == ("unsafe", False)
    copy = pickle.loads(pickle.dumps(caught))
    assert type(copy) is OutcomeUnknown
    assert vars(copy) == vars(caught)


@pytest.mark.parametrize(("executed", "expected"), [("no", NotExecuted), ("unknown", OutcomeUnknown), ("yes", Executed)])
def test_the_verdict_is_the_exception(kind: str, executed, expected) -> None:
    said = Outcome(reason="application", code=17, executed=executed, message="Its own.", detail=b'{"why":1}')
    with joined(kind, {"acme.charge": said}) as (client, _):
        caught = client.error("acme.charge", **ONCE)
    assert type(caught) is expected
    assert (caught.code, caught.message, caught.reason) == (17, "Its own.", "application")
    assert caught.data["detail"] == {"why": 1}


def test_a_method_that_nobody_has_is_not_executed(kind: str) -> None:
    with joined(kind, {"acme.charge": ok()}) as (client, _):
        caught = client.error("nobody.serves", timeout=10)
    assert type(caught) is NotExecuted
    assert (caught.reason, caught.code) == ("no_worker", 5031)


def test_no_broker_is_not_executed(kind: str) -> None:
    with Either(kind, f"tcp://127.0.0.1:{free_port()}") as client:
        caught = client.error("acme.charge", timeout=0.2, idempotency_key="k")
    assert type(caught) is NotExecuted
    assert (caught.reason, caught.code, caught.retry, caught.idempotency_key) == ("broker_lost", 5051, "safe", "k")


def test_a_full_queue_is_not_executed(kind: str) -> None:
    with joined(kind, served=False, limits=BrokerLimits(queue_length_max=0, no_worker_after_s=30)) as (client, _):
        caught = client.error("acme.charge", **ONCE, timeout=10)
    assert type(caught) is NotExecuted
    assert caught.reason == "overloaded"
    assert caught.retry_after is not None


def test_what_has_begun_and_does_not_end_in_time_is_unknown(kind: str) -> None:
    with joined(kind) as (client, host):
        caught = client.error("acme.charge", timeout=0.3, **ONCE)
        assert len(host.provider.started) == 1
    assert type(caught) is OutcomeUnknown
    assert caught.reason in {"deadline_exceeded", "cancelled"}


def test_a_worker_that_dies_leaves_its_call_unknown(kind: str) -> None:
    with joined(kind) as (client, host), ThreadPoolExecutor(1) as pool:
        calling = pool.submit(client.error, "acme.charge", timeout=30, **ONCE)
        host.begun()
        host.kill_worker()
        caught = calling.result(20)
    assert type(caught) is OutcomeUnknown
    assert (caught.reason, caught.retry) == ("worker_lost", "unsafe")


def test_what_a_dead_worker_held_is_done_by_the_next_where_it_may_be(kind: str) -> None:
    with joined(kind) as (client, host), ThreadPoolExecutor(1) as pool:
        calling = pool.submit(client.call, "acme.charge", timeout=30, **SAFE)
        host.begun()
        host.kill_worker()
        host.start_worker()
        host.begun(2)
        host.answer(ok(b'"from the second"'))
        assert calling.result(20) == "from the second"


# What workers say of their methods


def test_service_effect_and_time_are_the_methods_own(kind: str) -> None:
    offers = (MethodOffer("charge", "acme", "keyed", 3000),)
    with joined(kind, {"charge": ok()}, offers=offers) as (client, host):
        assert client.call("charge", idempotency_key="k") == "done"
        (start,) = host.provider.started
        assert (start.effect, start.key) == ("keyed", "k")
        assert start.deadline < time.monotonic() + 3
        host.provider.answers.clear()
        caught = client.error("charge", timeout=0.3)
    assert (caught.executed, caught.retry) == ("unknown", "same_key")


def test_what_a_worker_says_outlives_its_broker(kind: str) -> None:
    offers = (MethodOffer("charge", "acme", "safe"),)
    with joined(kind, {"charge": ok()}, offers=offers) as (client, host):
        assert client.call("charge") == "done"
        host.kill_broker()
        host.start_broker()
        assert client.call("charge", timeout=30) == "done"
        assert [start.effect for start in host.provider.started] == ["safe", "safe"]


# Brokers that come and go


@pytest.mark.parametrize("begun", [True, False])
def test_a_broker_that_is_killed_and_started_again_costs_nothing(kind: str, begun: bool) -> None:
    with joined(kind, served=begun, limits=BrokerLimits(no_worker_after_s=30)) as (client, host), ThreadPoolExecutor(1) as pool:
        calling = pool.submit(client.call, "acme.charge", {"a": 1}, timeout=40, **ONCE)
        if begun:
            host.begun()
        else:
            host.wait(lambda: host.brokers[0].queued("acme"))
        host.kill_broker()
        if begun:
            host.answer(ok())
        host.start_broker()
        if not begun:
            host.start_worker()
            host.begun()
            host.answer(ok())
        assert calling.result(30) == "done"
        assert len(host.provider.started) == 1


def test_a_broker_that_is_not_there_yet_is_waited_for(kind: str) -> None:
    with Host({"acme.charge": ok()}) as host:
        host.kill_broker()
        with Either(kind, host.url) as client, ThreadPoolExecutor(1) as pool:
            calling = pool.submit(client.call, "acme.charge", timeout=40, **ONCE)
            host.start_broker()
            assert calling.result(30) == "done"


def test_of_several_brokers_one_is_enough(kind: str) -> None:
    with Host({"acme.charge": ok()}, brokers=2) as host, Either(kind, list(host.endpoints)) as client:
        for killed in range(2):
            assert client.call("acme.charge", timeout=20, **ONCE) == "done"
            host.kill_broker(killed)
            assert client.call("acme.charge", timeout=20, **ONCE) == "done"
            host.start_broker(killed)


def test_a_call_that_waits_in_a_broker_that_dies_goes_to_another(kind: str) -> None:
    with (
        Host(brokers=2, served=False, limits=BrokerLimits(no_worker_after_s=30)) as host,
        Either(kind, host.url) as client,
        ThreadPoolExecutor(1) as pool,
    ):
        calling = pool.submit(client.call, "acme.charge", timeout=40, **ONCE)
        host.wait(lambda: any(broker.queued("acme") for broker in host.brokers))
        first = 0 if host.do(lambda: host.brokers[0].queued("acme")) else 1
        host.kill_broker(first)
        host.wait(lambda: host.brokers[1 - first].queued("acme"))
        host.start_worker()
        host.begun()
        host.answer(ok())
        assert calling.result(30) == "done"


# Asking again


def test_what_nobody_attempted_is_asked_again(kind: str) -> None:
    left = [failure("circuit_open", "Not now.", retry_after_ms=10)] * 2
    with joined(kind, {"acme.charge": lambda start: left.pop() if left else ok()}, retries=2) as (client, host):
        caught = client.error("acme.charge", **ONCE, timeout=10)
        assert caught.attempts  # this provider was asked, so it is not for the client to ask again
        assert len(host.provider.started) == 1
    with joined(kind, served=False, retries=1, limits=BrokerLimits(no_worker_after_s=0.2)) as (client, host):
        assert client.error("acme.charge", **ONCE, timeout=30).reason == "no_worker"
        host.start_worker()
        host.do(lambda: host.provider.answers.update({"acme.charge": ok()}))
        assert client.call("acme.charge", **ONCE, timeout=30) == "done"


def test_the_count_of_retries_is_bounded(kind: str) -> None:
    limits = BrokerLimits(queue_length_max=0, no_worker_after_s=30)
    with joined(kind, served=False, retries=2, limits=limits) as (client, _):
        began = time.monotonic()
        assert client.error("acme.charge", **ONCE, timeout=30).reason == "overloaded"
        assert time.monotonic() - began > 0.1  # retry_after, twice
        assert client.error("acme.charge", **ONCE, timeout=30, retries=0).reason == "overloaded"


# Batches and notifications


def test_a_batch_is_answered_in_its_own_order(kind: str) -> None:
    answers = {
        "acme.echo": lambda start: ok(start.body),
        "acme.refuse": failure("provider_refused", "No."),
    }
    with joined(kind, answers) as (client, host):
        first, second, third, fourth = client.batch(
            [
                ("acme.echo", {"a": 2**70}),
                ("acme.refuse", [1, 2], "order-17"),
                ("acme.echo", [3]),
                ("acme.echo", msgspec.Raw(b"{")),
            ],
            timeout=10,
        )
        assert len(host.provider.started) == 3
    assert (first, third) == ({"a": 2**70}, [3])
    assert type(second) is type(fourth) is NotExecuted
    assert (second.reason, second.idempotency_key, fourth.reason) == ("provider_refused", "order-17", "parse_error")


def test_an_empty_batch_asks_nobody(kind: str) -> None:
    with Either(kind, "tcp://127.0.0.1:1") as client:
        assert client.batch([]) == []


def test_a_notification_returns_when_it_is_done(kind: str) -> None:
    with joined(kind, {"acme.log": ok(), "acme.refuse": failure("provider_refused", "No.")}) as (client, host):
        client.notify("acme.log", {"text": "hello"}, timeout=5, idempotency_key="k")
        assert host.provider.started[0].key == "k"
        with pytest.raises(NotExecuted):
            client.notify("acme.refuse", **SAFE)


# Going away


def test_ctrl_c_cancels_what_has_not_begun() -> None:
    with (
        Host(served=False, limits=BrokerLimits(no_worker_after_s=30)) as host,
        Client(host.url) as client,
        ThreadPoolExecutor(1) as pool,
    ):

        def interrupt() -> None:
            host.wait(lambda: host.brokers[0].queued("acme"))
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        interrupting = pool.submit(interrupt)
        with pytest.raises(KeyboardInterrupt):
            client.call("acme.charge", timeout=30, **ONCE)
        interrupting.result(10)
        host.wait(lambda: not host.brokers[0].queued("acme"))


def test_cancelling_cancels_what_has_not_begun() -> None:
    async def main() -> None:
        async with AsyncClient(host.url) as client:
            calling = asyncio.create_task(client.call("acme.charge", timeout=30, **ONCE))
            await asyncio.to_thread(host.wait, lambda: host.brokers[0].queued("acme"))
            calling.cancel()
            with pytest.raises(asyncio.CancelledError):
                await calling
            await asyncio.to_thread(host.wait, lambda: not host.brokers[0].queued("acme"))
            assert isinstance(client._link, AsyncBrokerLink)
            assert client._link._owner is not None
            assert len(client._link._owner) == 0

    with Host(served=False, limits=BrokerLimits(no_worker_after_s=30)) as host:
        asyncio.run(main())


@pytest.mark.parametrize("begun", [True, False])
def test_closing_answers_who_waits(begun: bool) -> None:
    with Host(served=begun, limits=BrokerLimits(no_worker_after_s=30)) as host, ThreadPoolExecutor(1) as pool:
        client = Client(host.url)

        def call() -> object:
            with pytest.raises((NotExecuted, OutcomeUnknown), match="The client was closed") as caught:
                client.call("acme.charge", timeout=30, **ONCE)
            return caught.value

        calling = pool.submit(call)
        host.wait(lambda: host.provider.started if begun else host.brokers[0].queued("acme"))
        client.close()
        assert type(calling.result(10)) is (OutcomeUnknown if begun else NotExecuted)
        if not begun:
            host.wait(lambda: not host.brokers[0].queued("acme"))


def test_closing_an_async_client_answers_who_waits() -> None:
    async def main() -> None:
        client = AsyncClient(host.url)
        calling = asyncio.create_task(client.call("acme.charge", timeout=30, **ONCE))
        await asyncio.to_thread(host.begun)
        await client.close()
        with pytest.raises(OutcomeUnknown, match="The client was closed while"):
            await calling

    with Host() as host:
        asyncio.run(main())


def test_closing_between_two_attempts_leaves_the_last_answer() -> None:
    limits = BrokerLimits(queue_length_max=0, no_worker_after_s=30)
    with Host(served=False, limits=limits) as host, ThreadPoolExecutor(1) as pool:
        client = Client(host.url, retries=1000)
        link = link_of(client)
        asked = threading.Event()
        original = link.ask

        def ask(errand):
            wait = original(errand)
            if wait is not None:
                asked.set()
            return wait

        link.ask = ask  # type: ignore[method-assign]
        calling = pool.submit(client.batch, [("acme.charge", None)], timeout=30)
        assert asked.wait(10)
        client.close()
        (answer,) = calling.result(20)
        assert isinstance(answer, NotExecuted)
        assert answer.reason == "overloaded"


def test_closing_an_async_client_between_two_attempts_leaves_the_last_answer() -> None:
    async def main() -> None:
        client = AsyncClient(host.url, retries=1000)
        assert isinstance(client._link, AsyncBrokerLink)
        asked = asyncio.Event()

        async def sleep(seconds: float) -> None:
            asked.set()
            await asyncio.sleep(seconds)

        client._link.sleep = sleep  # type: ignore[method-assign]
        calling = asyncio.create_task(client.call("acme.charge", timeout=30, **ONCE))
        await asked.wait()
        await client.close()
        with pytest.raises(NotExecuted) as caught:
            await calling
        assert caught.value.reason == "overloaded"

    with Host(served=False, limits=BrokerLimits(queue_length_max=0, no_worker_after_s=30)) as host:
        asyncio.run(main())


# Threads, forks, loops


def test_threads_share_a_client_and_each_gets_its_own_answer() -> None:
    before = threading.active_count()
    with Host({"acme.echo": lambda start: ok(start.body)}) as host:
        with Client(host.url) as client, ThreadPoolExecutor(16) as pool:
            asked = [{"n": n} for n in range(2000)]
            assert list(pool.map(lambda params: client.call("acme.echo", params), asked)) == asked
            owner = owner_of(client)
            assert len(owner) == len(owner._machine) == 0
        assert len({start.call_id for start in host.provider.started}) == 2000
    assert threading.active_count() == before


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_begins_anew_and_leaves_its_parent_alone() -> None:
    with Host({"acme.charge": ok()}) as host, Client(host.url) as client:
        assert client.call("acme.charge") == "done"
        child = os.fork()
        if child == 0:  # nothing of the test's may run here
            try:
                done = client.call("acme.charge", timeout=20) == "done"
                gc.collect()
                client.close()
                os._exit(0 if done else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.call("acme.charge", timeout=20) == "done"
        assert len({start.call_id[:8] for start in host.provider.started}) == 2


FORKING = """
import os, sys, homing

client = homing.Client(sys.argv[1])
print(client.call("acme.charge"), flush=True)
for calls in (False, True):
    child = os.fork()
    if child == 0:
        if calls:
            print(client.call("acme.charge", timeout=20), flush=True)
        sys.exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), client.call("acme.charge", timeout=20), flush=True)
"""


def test_a_forked_child_that_ends_in_order_leaves_its_parent_alone() -> None:
    """What the interpreter tidies up at a child's end must not reach the sockets and the selector that it shares."""
    with Host({"acme.charge": ok()}) as host:
        done = subprocess.run([sys.executable, "-c", FORKING, host.url], capture_output=True, text=True, check=True, timeout=40)
    assert (done.stdout.split("\n"), done.stderr) == (["done", "0 done", "done", "0 done", ""], "")


FORKING_LOOP = """
import asyncio, gc, os, sys, homing

client = homing.AsyncClient(sys.argv[1])

async def call(timeout=20):
    return await client.call("acme.charge", timeout=timeout)

async def call_and_close():
    done = await call()
    await client.close()
    return done

def forked():
    child = os.fork()
    if child == 0:
        try:
            print(asyncio.run(call_and_close()), flush=True)
            gc.collect()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

async def forked_within():
    return await call(), forked(), await call(5)

with asyncio.Runner() as runner:
    print(runner.run(call()), flush=True)
    print(forked(), runner.run(call(5)), flush=True)
    print(*runner.run(forked_within()), flush=True)
    runner.run(client.close())
"""


def test_a_forked_child_leaves_the_loop_of_its_parent_alone() -> None:
    with Host({"acme.charge": ok()}) as host:
        program = [sys.executable, "-c", FORKING_LOOP, host.url]
        done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=50)
    assert (done.stdout.split("\n"), done.stderr) == (["done", "done", "0 done", "done", "done 0 done", ""], "")


def test_a_program_that_forgets_to_close_ends() -> None:
    program = "import sys, homing; client = homing.Client(sys.argv[1]); print(client.call('acme.charge', timeout=20))"
    with Host({"acme.charge": ok()}) as host:
        done = subprocess.run([sys.executable, "-c", program, host.url], capture_output=True, text=True, check=True, timeout=30)
    assert (done.stdout, done.stderr) == ("done\n", "")


def test_a_client_that_is_dropped_takes_its_thread_along() -> None:
    with Host({"acme.charge": ok()}) as host:
        before = threading.active_count()
        client = Client(host.url)
        assert client.call("acme.charge") == "done"
        assert threading.active_count() == before + 1
        del client
        gc.collect()
        assert threading.active_count() == before


@on_both_loops
async def test_many_at_once_on_the_callers_loop() -> None:
    with Host({"acme.echo": lambda start: ok(start.body)}) as host:
        async with AsyncClient(host.url) as client:
            asked = [{"n": n} for n in range(1000)]
            assert await asyncio.gather(*(client.call("acme.echo", params) for params in asked)) == asked


def test_a_client_may_move_to_another_loop() -> None:
    with Host({"acme.charge": ok()}) as host:
        client = AsyncClient(host.url)
        assert asyncio.run(client.call("acme.charge", timeout=20)) == "done"
        assert asyncio.run(client.call("acme.charge", timeout=20)) == "done"
        asyncio.run(client.close())


def test_an_async_client_is_not_shared_by_two_loops_at_once() -> None:
    async def main() -> None:
        async with AsyncClient(host.url) as client:
            assert await client.call("acme.charge") == "done"
            with pytest.raises(RuntimeError, match="belongs to another event loop"):
                await asyncio.to_thread(lambda: asyncio.run(client.call("acme.charge")))
            assert await client.call("acme.charge") == "done"

    with Host({"acme.charge": ok()}) as host:
        asyncio.run(main())


def test_ctrl_c_while_the_thread_begins_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Brokers.owner_on

    def owner_on(self: Brokers, loop: asyncio.AbstractEventLoop) -> Owner:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return original(self, loop)

    before = threading.active_count()
    with Client("tcp://127.0.0.1:1") as client:
        monkeypatch.setattr(Brokers, "owner_on", owner_on)
        with pytest.raises(KeyboardInterrupt):
            client.call("acme.charge", timeout=30)
        monkeypatch.undo()
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and thread.name == "homing client":
                thread.join(10)
        assert threading.active_count() == before


def test_a_thread_that_cannot_begin_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def owner_on(self: Brokers, loop: asyncio.AbstractEventLoop) -> None:
        raise OSError("no socket is left")

    monkeypatch.setattr(Brokers, "owner_on", owner_on)
    before = threading.active_count()
    with Client("tcp://127.0.0.1:1") as client:
        for _ in range(2):
            with pytest.raises(OSError, match="no socket is left"):
                client.call("acme.charge")
    assert threading.active_count() == before


def test_ten_thousand_calls_leave_nothing_behind() -> None:
    answers: Answers = {"acme.echo": lambda start: ok(start.body), "acme.refuse": failure("provider_refused", "No.")}
    with Host(answers, credit=1000) as host, Client(host.url) as client:
        for _ in range(20):
            calls = [("acme.echo" if number % 3 else "acme.refuse", {"n": number}) for number in range(500)]
            answered = client.batch(calls, timeout=30)
            assert sum(isinstance(answer, NotExecuted) for answer in answered) == 167
        owner = owner_of(client)
        assert len(owner) == len(owner._machine) == len(owner._machine._deadlines) == 0
        host.wait(lambda: not len(host.brokers[0]))
        host.wait(lambda: host.worker is not None and not len(host.worker))


# Keys


class Keys:
    """A pair, and the file that it is in."""

    def __init__(self, folder: Path, name: str) -> None:
        self.public, self.secret = (key.decode() for key in zmq.curve_keypair())
        self.path = folder / f"{name}.toml"
        self.path.write_text(f'public_key = "{self.public}"\nsecret_key = "{self.secret}"\n')
        self.path.chmod(0o600)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[Host, dict[str, Any], Path]]:
    """A broker with a door, a worker behind it, the options of a client that may come in as the shop, and of one that may not."""
    broker, worker, shop, stranger = (Keys(tmp_path, name) for name in ("broker", "worker", "shop", "stranger"))
    users = {worker.public.encode(): "worker", shop.public.encode(): "shop"}
    permits = {"worker": Permit(serve=("acme",)), "shop": Permit(call=("acme",), principal="webshop")}
    with Host(
        {"acme.charge": ok()},
        curve=CurveServer(broker.secret.encode(), users),
        permits=permits,
        worker_curve=CurveClient(worker.public.encode(), worker.secret.encode(), broker.public.encode()),
        offers=(MethodOffer("acme.charge", "acme", "safe"),),
    ) as host:
        yield host, {"curve": shop.path, "broker_key": broker.public, "retries": 0}, stranger.path


def test_the_key_names_the_principal(kind: str, guarded) -> None:
    host, options, _ = guarded
    with Either(kind, host.url, **options) as client:
        assert client.call("acme.charge", timeout=20) == "done"
    with Either(kind, host.url, principal="webshop", **options) as client:
        assert client.call("acme.charge", timeout=20) == "done"
    assert {start.principal for start in host.provider.started} == {"webshop"}


def test_in_another_name_or_elsewhere_is_forbidden(kind: str, guarded) -> None:
    host, options, _ = guarded
    with Either(kind, host.url, principal="somebody else", **options) as client:
        caught = client.error("acme.charge", timeout=20)
        assert (type(caught), caught.reason, caught.retry) == (NotExecuted, "forbidden", "pointless")
    with Either(kind, host.url, **options) as client:
        caught = client.error("bank.transfer", timeout=20, service="bank", effect="once")
        assert (type(caught), caught.reason) == (NotExecuted, "forbidden")
    assert host.provider.started == []


def test_a_key_that_the_broker_does_not_know_is_told(kind: str, guarded) -> None:
    host, options, stranger = guarded
    with Either(kind, host.url, **(options | {"curve": stranger})) as client:
        caught = client.error("acme.charge", timeout=1.0)
    assert type(caught) is NotExecuted
    assert caught.reason == "broker_lost"
    assert "refused this process: its public key is on no list there" in caught.message


def test_without_a_key_nobody_comes_in(kind: str, guarded) -> None:
    host, *_ = guarded
    with Either(kind, host.url) as client:
        caught = client.error("acme.charge", timeout=1.0)
    assert (type(caught), caught.reason) == (NotExecuted, "broker_lost")


# The package


def test_zmq_is_imported_by_those_who_use_it() -> None:
    names = "print([name for name in ('zmq', 'homing.core', 'asyncio') if name in sys.modules])"
    program = f"import sys, homing; homing.Client(); {names}; homing.Client('tcp://127.0.0.1:1'); {names}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first == "[]"
    assert "'zmq'" in second
