"""A process from start to stop, whatever its parts."""

import asyncio
import errno
import json
import os
import re
import signal
import socket
from collections.abc import Coroutine, Sequence
from pathlib import Path

import msgspec
import pytest

from homing import config
from homing.core.machine import PeerFound, PeerLost, Received
from homing.core.messages import Disconnect, MethodOffer, Ready
from homing.forms import Address
from homing.roles import process as process_module
from homing.roles.process import Plan, Process, Unbound, run_to_its_end
from homing.telemetry import Log
from tests.engines.zmq_people import raw, say_raw
from tests.loops import run, until

HOUSE = """
[gateway]
listen = "127.0.0.1:{port}"
[providers.acme]
base_url = "http://127.0.0.1:9"
[methods."acme.safe"]
provider = "acme"
effect = "safe"
request = "POST /"
"""


class Stage:
    """A folder, a log, and processes made in it."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        (folder / "homing.toml").write_text(HOUSE.replace("{port}", str(port)))
        self._reading = config.read(folder / "homing.toml")
        self._path = folder / "log.jsonl"
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.log = Log(self._fd, human=False)

    def process(self, plan: Plan) -> Process:
        return Process(config.usable(self._reading), self._reading.methods, plan, log=self.log)

    def run(self, main: Coroutine[object, object, None]) -> list[dict[str, object]]:
        """Run it, and return what was logged."""
        try:
            run(main)
        finally:
            self.log.close()
            os.close(self._fd)
        return [json.loads(line) for line in self._path.read_text().splitlines()]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


GATEWAY = Plan(name="homing gateway", gateway=True, dials=("ipc://@homing-nobody",))
BROKER = Plan(name="homing broker", broker=True, listens=("tcp://127.0.0.1:0",))


def test_an_address_that_cannot_be_had_is_named_and_nothing_is_left_open(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        stage = Stage(tmp_path, port)

        async def main() -> None:
            for plan, named in (
                (GATEWAY, f"127.0.0.1:{port}"),
                (Plan(name="x", broker=True, listens=(f"tcp://127.0.0.1:{port}",)), f"tcp://127.0.0.1:{port}"),
                (Plan(name="x", broker=True, listens=BROKER.listens, admin=Address("127.0.0.1", port)), f"127.0.0.1:{port}"),
            ):
                with pytest.raises(Unbound, match=f"cannot listen on {named}: .*in use") as refused:
                    await stage.process(plan).start()
                assert refused.value.errno == errno.EADDRINUSE

        stage.run(main())


def test_a_broker_has_nothing_to_wait_for(stage: Stage) -> None:
    async def main() -> None:
        process = stage.process(BROKER)
        await process.start()
        assert process.endpoints[0].startswith("tcp://127.0.0.1:")
        assert not process.endpoints[0].endswith(":0")
        process.heed_signals()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(process.run(), 10)

    assert [line["event"] for line in stage.run(main())] == ["drain", "stopped"]


def test_who_has_started_it_is_gone(stage: Stage) -> None:
    reader, writer = os.pipe()

    async def main() -> None:
        process = stage.process(Plan(name="x", broker=True, listens=BROKER.listens, parent_fd=reader))
        await process.start()
        running = asyncio.ensure_future(process.run())
        os.close(writer)
        await asyncio.wait_for(running, 10)

    stage.run(main())


def test_who_is_replaced_serves_out_whom_it_has_and_accepts_nobody_more(stage: Stage, tmp_path: Path) -> None:
    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.findall(rb"Content-Length: (\d+)", head)[0]))
        return head

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as shared:
            port = shared.getsockname()[1]
            old = stage.process(msgspec.structs.replace(GATEWAY, listen_fds=(os.dup(shared.fileno()),)))
            await old.start()
            old.heed_signals()
            running = asyncio.ensure_future(old.run())
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            assert b"close" not in await ask(reader, writer)
            os.kill(os.getpid(), signal.SIGUSR1)
            await old.stopping.wait()
            os.kill(os.getpid(), signal.SIGUSR1)  # it knows
            waiting = await asyncio.open_connection("127.0.0.1", port)  # nobody takes it, and nobody refuses it
            assert b"Connection: close" in await ask(reader, writer)
            assert await reader.read() == b""
            writer.close()
            await running
            new = stage.process(msgspec.structs.replace(GATEWAY, listen_fds=(os.dup(shared.fileno()),)))
            await new.start()
            await ask(*waiting)
            waiting[1].close()
            await new.stop()

    stage.run(main())


def test_the_gateway_and_its_broker_find_each_other_and_lose_each_other(stage: Stage, tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/broker"

    async def main() -> None:
        gateway = stage.process(Plan(name="homing gateway", gateway=True, dials=(endpoint,)))
        await gateway.start()
        assert gateway.front is not None
        assert not gateway.front.gateway.ready
        broker = stage.process(Plan(name="homing broker", broker=True, listens=(endpoint,)))
        await broker.start()
        await until(lambda: gateway.front is not None and gateway.front.gateway.ready)
        await broker.stop()
        await until(lambda: b"Lost" in (tmp_path / "log.jsonl").read_bytes())
        assert gateway.front.gateway.ready, "it has been reached once"
        await gateway.stop()
        assert not gateway.front.gateway.ready

    lines = [line["message"] for line in stage.run(main()) if line["event"] == "broker"]
    assert lines == [f"Reached the broker at {endpoint}.", f"Lost the broker at {endpoint}."]


def test_a_gateway_knows_what_workers_offer_before_it_takes_a_call(stage: Stage, tmp_path: Path) -> None:
    """Else a successor would say of their methods that there are none, for a moment."""
    endpoint = f"ipc://{tmp_path}/broker"
    listened: list[list[str]] = []

    async def main() -> None:
        broker = stage.process(Plan(name="homing broker", broker=True, listens=(endpoint,)))
        await broker.start()
        middle = broker.middle
        assert middle is not None
        gateway = stage.process(Plan(name="homing gateway", gateway=True, dials=(endpoint,)))
        front = gateway.front
        assert front is not None
        listen = front.listen

        async def listening(sockets: Sequence[socket.socket] = ()) -> None:
            listened.append(list(front.gateway.learnt))
            await listen(sockets)

        front.listen = listening  # type: ignore[method-assign]
        with raw(endpoint) as worker:
            say_raw(worker, Ready(bytes(16), {"desk": 1}, 1000, (MethodOffer("desk.it", "desk"),)))
            await until(lambda: "desk" in middle.broker.services)
            await gateway.start()
            await gateway.stop()
        await broker.stop()

    stage.run(main())
    assert listened == [["desk.it"]]


def test_that_no_broker_is_there_is_told(stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("homing.roles.process.UNREACHED_S", 0.05)

    async def main() -> None:
        gateway = stage.process(GATEWAY)
        await gateway.start()
        await until(lambda: b"No broker" in (tmp_path / "log.jsonl").read_bytes())
        await gateway.stop()

    (line,) = [line for line in stage.run(main()) if line["event"] == "broker"]
    assert line["message"] == "No broker has been reached yet, at ipc://@homing-nobody. It is dialled on."
    assert line["level"] == "warning"


def test_what_was_dropped_is_one_line_for_all_and_none_for_nothing(stage: Stage) -> None:
    async def main() -> None:
        process = stage.process(BROKER)
        await process.start()
        assert process.middle is not None
        process.middle.broker.counts["strange"] += 3
        process._log_counts()
        process._log_counts()
        process.middle.broker.counts["strange"] += 1
        assert b'homing_messages_dropped_total{name="strange"} 4.0' in process.metrics.exposition()
        await process.stop()

    lines = [line for line in stage.run(main()) if line["event"] == "counted"]
    assert [line["strange"] for line in lines] == [3, 1]


def test_a_broker_that_hangs_up_before_it_says_a_word_is_told_once_and_why(stage: Stage) -> None:
    async def main() -> None:
        process = stage.process(GATEWAY)
        await process.start()
        for _ in range(2):
            for _ in range(100):
                process._tell(process_module.GATEWAY, PeerFound(b"far"))
                process._tell(process_module.GATEWAY, PeerLost(b"far"))
            process._count()
        process._tell(process_module.GATEWAY, PeerFound(b"far"))
        process._tell(process_module.GATEWAY, Received(b"far", Disconnect()))
        process._tell(process_module.GATEWAY, PeerLost(b"far"))
        await process.stop()

    lines = [line for line in stage.run(main()) if line["event"] == "broker"]
    told = ["info", "warning"] * 3 + ["error"]
    assert [line["level"] for line in lines] == [*told, *told, "info", "warning"]
    assert "larger than its broker.frame_bytes_max" in str(lines[6]["message"])


@pytest.mark.parametrize("how", [SystemExit, KeyboardInterrupt])
def test_a_task_that_exits_ends_itself_and_not_the_process(how: type[BaseException]) -> None:
    heard: list[object] = []

    async def leave() -> None:
        raise how(3)

    async def main() -> None:
        loop, told = asyncio.get_running_loop(), asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, told.set)
        loop.add_signal_handler(signal.SIGINT, told.set)
        for _ in range(2):
            heard.extend(await asyncio.gather(leave(), asyncio.sleep(0.01, "other"), return_exceptions=True))
        os.kill(os.getpid(), signal.SIGUSR1)
        await told.wait()

    run_to_its_end(main())
    assert [type(each) for each in heard] == [how, str] * 2
    with pytest.raises(how, match="3"):
        run_to_its_end(leave())


def test_ctrl_c_before_anybody_heeds_it_ends_the_process() -> None:
    async def main() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(30)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt):
        run_to_its_end(main())
    signal.signal(signal.SIGINT, before)
