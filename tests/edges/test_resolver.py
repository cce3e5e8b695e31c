"""homing.edges.resolver: one lookup per host, however many wait, and none of them for ever."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable

import pytest

from homing.edges.resolver import HOSTS_MAX, Address, ResolveFailed, Resolver, system_lookup
from tests.loops import on_both_loops, until

V4 = Address(socket.AF_INET, "192.0.2.1")
V6 = Address(socket.AF_INET6, "2001:db8::1")


class Names:
    """A lookup that waits until it may answer."""

    def __init__(self, answer: Callable[[str], list[Address]] = lambda host: [V4]) -> None:
        self.answer = answer
        self.asked: list[str] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def __call__(self, host: str) -> list[Address]:
        self.asked.append(host)
        self.may_answer.wait()
        return self.answer(host)


def refuse(error: Exception) -> Callable[[str], list[Address]]:
    def answer(host: str) -> list[Address]:
        raise error

    return answer


@on_both_loops
async def test_literals_are_not_looked_up() -> None:
    names = Names()
    resolver = Resolver(asyncio.get_running_loop(), names)
    assert await resolver.resolve("127.0.0.1") == [Address(socket.AF_INET, "127.0.0.1")]
    assert await resolver.resolve("::1") == [Address(socket.AF_INET6, "::1")]
    assert await resolver.resolve("fe80::1%1") == [Address(socket.AF_INET6, "fe80::1", 1)]
    assert await resolver.resolve("fe80::1%lo") == [Address(socket.AF_INET6, "fe80::1", socket.if_nametoindex("lo"))]
    assert names.asked == []
    assert await resolver.resolve("fe80::1%nosuch") == [V4]
    assert names.asked == ["fe80::1%nosuch"]


def test_addresses_as_connect_takes_them() -> None:
    assert V4.with_port(80) == ("192.0.2.1", 80)
    assert V6.with_port(80) == ("2001:db8::1", 80, 0, 0)


@on_both_loops
async def test_one_lookup_serves_all_who_wait_and_those_who_come_soon() -> None:
    names = Names(lambda host: [V6, V4])
    names.may_answer.clear()
    resolver = Resolver(asyncio.get_running_loop(), names)
    waiting = [asyncio.ensure_future(resolver.resolve("a.example")) for _ in range(50)]
    await until(lambda: names.asked == ["a.example"])
    names.may_answer.set()
    assert await asyncio.gather(*waiting) == [[V6, V4]] * 50
    assert await resolver.resolve("a.example") == [V6, V4]
    assert names.asked == ["a.example"]
    assert resolver.threads == 0


@on_both_loops
async def test_what_is_known_is_asked_again_in_time() -> None:
    names = Names()
    resolver = Resolver(asyncio.get_running_loop(), names, found_s=0.0)
    await resolver.resolve("a.example")
    await resolver.resolve("a.example")
    assert names.asked == ["a.example"] * 2


@on_both_loops
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (socket.gaierror(), "could not be looked up"),
        (OSError("no more threads"), "no more threads"),
        (UnicodeError("label too long"), "label too long"),
        (ZeroDivisionError("oops"), "the lookup broke: ZeroDivisionError"),
    ],
    ids=str,
)
async def test_failures_are_told_to_all_and_remembered(error: Exception, words: str) -> None:
    names = Names(refuse(error))
    resolver = Resolver(asyncio.get_running_loop(), names, unknown_s=100.0)
    told = await asyncio.gather(*(resolver.resolve("a.example") for _ in range(3)), return_exceptions=True)
    assert all(isinstance(one, ResolveFailed) and words in str(one) for one in told)
    with pytest.raises(ResolveFailed, match=words):
        await resolver.resolve("a.example")
    assert names.asked == ["a.example"]


@on_both_loops
async def test_a_failure_is_not_remembered_long() -> None:
    names = Names(refuse(OSError("down")))
    resolver = Resolver(asyncio.get_running_loop(), names, unknown_s=0.0)
    with pytest.raises(ResolveFailed):
        await resolver.resolve("a.example")
    names.answer = lambda host: [V4]
    assert await resolver.resolve("a.example") == [V4]


@on_both_loops
async def test_no_thread_to_be_had_is_a_failure_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = Resolver(asyncio.get_running_loop(), Names(), unknown_s=0.0)
    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", none_left)
        with pytest.raises(ResolveFailed, match="can't start new thread"):
            await asyncio.wait_for(resolver.resolve("a.example"), 5)
    assert resolver.threads == 0
    assert await asyncio.wait_for(resolver.resolve("a.example"), 5) == [V4]


@on_both_loops
async def test_a_host_without_addresses() -> None:
    with pytest.raises(ResolveFailed, match="no address"):
        await Resolver(asyncio.get_running_loop(), lambda host: []).resolve("a.example")


@on_both_loops
async def test_who_stops_waiting_disturbs_nobody_and_starts_nothing_anew() -> None:
    names = Names()
    names.may_answer.clear()
    resolver = Resolver(asyncio.get_running_loop(), names)
    impatient = asyncio.ensure_future(resolver.resolve("a.example"))
    await until(lambda: bool(names.asked))
    impatient.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await impatient
    patient = asyncio.ensure_future(resolver.resolve("a.example"))
    also_impatient = asyncio.ensure_future(resolver.resolve("a.example"))
    await asyncio.sleep(0)
    also_impatient.cancel()
    names.may_answer.set()
    assert await patient == [V4]
    assert names.asked == ["a.example"]
    with pytest.raises(asyncio.CancelledError):
        await also_impatient


@on_both_loops
async def test_threads_are_few_and_hosts_stand_in_line() -> None:
    names = Names()
    names.may_answer.clear()
    resolver = Resolver(asyncio.get_running_loop(), names, threads_max=3)
    waiting = [asyncio.ensure_future(resolver.resolve(f"{index}.example")) for index in range(10)]
    await until(lambda: len(names.asked) == 3)
    await asyncio.sleep(0.01)
    assert resolver.threads == 3
    assert len(names.asked) == 3
    names.may_answer.set()
    assert await asyncio.gather(*waiting) == [[V4]] * 10
    assert resolver.threads == 0


@on_both_loops
async def test_what_is_remembered_is_bounded() -> None:
    resolver = Resolver(asyncio.get_running_loop(), lambda host: [V4])
    for index in range(HOSTS_MAX + 10):
        await resolver.resolve(f"{index}.example")
    assert len(resolver._known) == HOSTS_MAX


@on_both_loops
async def test_a_lookup_that_ends_after_its_loop_is_forgotten() -> None:
    names = Names()
    other = asyncio.new_event_loop()
    resolver = Resolver(other, names)
    names.may_answer.clear()
    resolving = other.create_task(resolver.resolve("a.example"))
    thread = threading.Thread(target=lambda: other.run_until_complete(asyncio.wait([resolving], timeout=0.05)))
    thread.start()
    await asyncio.to_thread(thread.join)
    resolving.cancel()
    thread = threading.Thread(target=lambda: other.run_until_complete(asyncio.wait([resolving])))
    thread.start()
    await asyncio.to_thread(thread.join)
    other.close()
    names.may_answer.set()
    await until(lambda: not any(one.name == "resolve a.example" for one in threading.enumerate()))


def test_the_system_knows_localhost_and_no_invalid_name() -> None:
    found = {address.host for address in system_lookup("localhost")}
    assert found & {"127.0.0.1", "::1"}
    with pytest.raises(OSError):
        system_lookup("name.invalid")  # RFC 6761: it never will
    with pytest.raises((OSError, UnicodeError)):
        system_lookup("x" * 70 + ".example")
