"""client_asyncio: cancellation, many at once, more than one event loop; what both clients share is in test_client_wire."""

import asyncio
import gc
import os
import threading
from pathlib import Path

import pytest
import uvloop

from homing import AsyncClient, CallError, NotExecuted, OutcomeUnknown
from homing.client_asyncio import AsyncLink, Conversation
from tests.scripted_gateway import ScriptedGateway, Visit, each, error, free_port, result


def link_of(client: AsyncClient) -> AsyncLink:
    assert isinstance(client._link, AsyncLink)
    return client._link


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def test_cancelling_closes_the_connection_and_leaks_nothing() -> None:
    entered, gone = threading.Semaphore(0), threading.Semaphore(0)

    def script(visit: Visit) -> None:
        visit.request()
        entered.release()
        visit.gone()
        gone.release()

    async def main() -> None:
        async with AsyncClient(gateway.url) as client:
            for _ in range(5):
                calling = asyncio.create_task(client.call("m", timeout=30))
                await asyncio.to_thread(entered.acquire, timeout=10)
                calling.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await calling
                assert await asyncio.to_thread(gone.acquire, timeout=10)
            assert link_of(client)._idle == []

    with ScriptedGateway(script) as gateway:
        asyncio.run(main())
        assert len(gateway.requests) == 5


@pytest.mark.parametrize("turns", range(12))
def test_cancelling_at_any_step_leaks_nothing(turns: int) -> None:
    async def main() -> None:
        async with AsyncClient(gateway.url) as client:
            for _ in range(8):
                calling = asyncio.create_task(client.call("m"))
                for _ in range(turns):
                    await asyncio.sleep(0)
                calling.cancel()
                await asyncio.wait([calling])
            await client.call("m")

    with ScriptedGateway(each(result)) as gateway:
        asyncio.run(main())
        before = open_files()
        asyncio.run(main())
        after = open_files()
    # The gateway's side of a connection closes on a thread of its own, a little later: it is allowed to lag, not to grow.
    assert after <= before + 9


def test_many_at_once_each_get_their_own_answer() -> None:
    def echo(request):
        return result(request, request.json["params"])

    async def main() -> None:
        async with AsyncClient(gateway.url) as client:
            asked = [{"n": n} for n in range(100)]
            assert await asyncio.gather(*(client.call("echo", params) for params in asked)) == asked
            assert await asyncio.gather(*(client.call("echo", params) for params in asked)) == asked

    with ScriptedGateway(each(echo)) as gateway:
        asyncio.run(main())
        assert gateway.visits <= 200


def test_a_name_is_looked_up_once_for_all_who_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    from homing import client_blocking

    looked = []
    original = client_blocking.look_up

    def look_up(*arguments):
        looked.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(client_blocking, "look_up", look_up)

    async def main() -> None:
        async with AsyncClient(f"http://localhost:{gateway.port}") as client:
            await asyncio.gather(*(client.call("m") for _ in range(20)))

    with ScriptedGateway(each(result)) as gateway:
        asyncio.run(main())
    assert len(looked) == 1


def test_a_look_up_may_outlive_its_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    from homing import client_blocking

    release = threading.Event()

    def look_up(*arguments):
        release.wait()
        raise OSError("too late")

    monkeypatch.setattr(client_blocking, "look_up", look_up)

    async def main() -> CallError:
        async with AsyncClient("http://gateway.invalid", retries=0) as client:
            with pytest.raises(NotExecuted) as caught:
                await client.call("m", timeout=0.05)
            return caught.value

    before = threading.active_count()
    assert asyncio.run(main()).reason == "expired"
    waiting = [thread for thread in threading.enumerate() if thread.name == "look up gateway.invalid"]
    release.set()
    for thread in waiting:
        thread.join(10)
    assert threading.active_count() <= before


def test_a_client_may_move_to_another_loop() -> None:
    with ScriptedGateway(each(result)) as gateway:
        client = AsyncClient(gateway.url)

        async def call_and_close() -> object:
            try:
                return await client.call("m")
            finally:
                link_of(client)._drop_idle(0.0)

        assert asyncio.run(call_and_close()) == "done"
        assert asyncio.run(call_and_close()) == "done"
        assert gateway.visits == 2


def test_a_client_may_be_closed_on_another_loop() -> None:
    with ScriptedGateway(each(result)) as gateway:
        client = AsyncClient(gateway.url)
        with asyncio.Runner() as runner:
            assert runner.run(client.call("m")) == "done"
            (idle,) = link_of(client)._idle
            asyncio.run(client.close())
            runner.run(asyncio.sleep(0))
            assert idle.transport.is_closing()
            with pytest.raises(RuntimeError, match="this client is closed"):
                runner.run(client.call("m"))
        closed = AsyncClient(gateway.url)
        with asyncio.Runner() as runner:
            assert runner.run(closed.call("m")) == "done"
            idle = link_of(closed)._idle[0]
            runner.get_loop().call_soon(idle.transport.abort)
        asyncio.run(closed.close())


def test_two_loops_at_once_are_told_apart_before_anything_is_sent() -> None:
    async def elsewhere(client: AsyncClient) -> None:
        with pytest.raises(RuntimeError, match="belongs to another event loop, which is running"):
            await client.call("m")

    async def main() -> None:
        async with AsyncClient(gateway.url) as client:
            assert await client.call("m") == "done"
            await asyncio.to_thread(asyncio.run, elsewhere(client))
            assert await client.call("m") == "done"

    with ScriptedGateway(each(result)) as gateway:
        asyncio.run(main())
        assert (len(gateway.requests), gateway.visits) == (2, 1)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_leaves_the_parents_connections_alone() -> None:
    async def main() -> None:
        client = AsyncClient(gateway.url)
        assert await client.call("m") == "done"
        child = os.fork()
        if child == 0:
            answered = False
            try:
                answered = asyncio.run(client.call("m")) == "done"
            finally:
                os._exit(0 if answered else 1)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert await client.call("m") == "done"
        await client.close()

    with ScriptedGateway(each(result)) as gateway:
        asyncio.run(main())
        assert gateway.visits == 2


def test_it_runs_on_uvloop() -> None:
    turns = []

    def answer(request):
        turns.append(1)
        if len(turns) == 1:
            data = {"reason": "overloaded", "executed": "no", "retry": "safe", "retry_after_ms": 1}
            return error(request, 5030, "m", data, 503)
        return result(request, request.json["params"])

    async def main() -> None:
        async with AsyncClient(gateway.url) as client:
            for n in range(5):
                assert await client.call("m", {"n": n}) == {"n": n}
            big = {"text": "x" * 3_000_000}
            assert await client.call("m", big) == big
            calling = asyncio.create_task(client.call("m", big))
            await asyncio.sleep(0)
            calling.cancel()
            await asyncio.wait([calling])
        async with AsyncClient(f"http://127.0.0.1:{free_port()}", retries=0) as client:
            with pytest.raises(NotExecuted):
                await client.call("m")

    async def lost() -> None:
        async with AsyncClient(gateway.url) as client:
            with pytest.raises(OutcomeUnknown):
                await client.call("m")

    with ScriptedGateway(each(answer)) as gateway, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
    with ScriptedGateway(lambda visit: visit.request()) as gateway, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(lost())


def test_closing_lets_calls_end_and_keeps_nothing() -> None:
    entered, gone = threading.Event(), threading.Event()

    def script(visit: Visit) -> None:
        request = visit.request()
        assert request is not None
        entered.set()
        visit.read(0)
        release.wait()
        visit.send(result(request))
        visit.gone()
        gone.set()

    release = threading.Event()

    async def main() -> None:
        client = AsyncClient(gateway.url)
        calling = asyncio.create_task(client.call("m"))
        await asyncio.to_thread(entered.wait, 10)
        await client.close()
        release.set()
        assert await calling == "done"
        assert await asyncio.to_thread(gone.wait, 10)

    with ScriptedGateway(script) as gateway:
        asyncio.run(main())


def test_bytes_that_come_while_it_is_idle_end_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with AsyncClient(gateway.url) as client:
            await client.call("m")
            (conversation,) = link_of(client)._idle
            closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            monkeypatch.setattr(conversation, "connection_lost", lambda exc: closed.set_result(None))
            released.set()
            await asyncio.wait_for(closed, 10)
            assert conversation.spent()
            await client.call("m")
            assert gateway.visits == 2

    released = threading.Event()

    def script(visit: Visit) -> None:
        request = visit.request()
        assert request is not None
        visit.send(result(request))
        released.wait()
        visit.send(b"junk")
        visit.gone()

    with ScriptedGateway(script) as gateway:
        asyncio.run(main())


def test_a_connection_that_ends_at_once_is_not_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    original = AsyncLink._connect

    async def connect(self: AsyncLink, loop: asyncio.AbstractEventLoop, until: float) -> Conversation:
        conversation = await original(self, loop, until)
        conversation.transport.abort()
        return conversation

    monkeypatch.setattr(AsyncLink, "_connect", connect)

    async def main() -> None:
        async with AsyncClient(gateway.url, retries=0) as client:
            with pytest.raises(NotExecuted, match="ended at once"):
                await client.call("m")

    with ScriptedGateway(each(result)) as gateway:
        asyncio.run(main())
        assert gateway.requests == []
