"""The demo does what its lines promise."""

import asyncio
import json
import os
from typing import Any

import msgspec
import pytest
import uvloop

from homing import AsyncClient, CallError, OutcomeUnknown
from homing.config import ConfigError, usable
from homing.roles.demo import DemoProvider, demo_config, read_demo, start_demo
from homing.roles.serve import OneProcess
from homing.telemetry import Log


def with_demo(act: Any) -> Any:
    async def main() -> Any:
        reader, writer = os.pipe()
        log = Log(writer, human=False)
        process, provider = await start_demo(log, listen="127.0.0.1:0", admin="127.0.0.1:0")
        try:
            async with AsyncClient(f"http://127.0.0.1:{process.port}", timeout=10) as homing:
                return await act(homing, process, provider)
        finally:
            await process.stop()
            await provider.listener.close(0.2)
            log.close()
            os.close(writer)
            os.close(reader)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())


def test_echo_and_slow() -> None:
    async def act(homing: AsyncClient, process: OneProcess, provider: DemoProvider) -> None:
        assert await homing.call("demo.echo", {"text": "hé"}) == {"text": "hé"}
        assert await homing.call("demo.slow", {"seconds": 0.05}) == {"slept_s": 0.05}
        with pytest.raises(CallError, match="params"):
            await homing.call("demo.echo", {"txt": "x"})

    with_demo(act)


def test_what_was_lost_is_unknown_and_in_the_ledger() -> None:
    async def act(homing: AsyncClient, process: OneProcess, provider: DemoProvider) -> None:
        with pytest.raises(OutcomeUnknown) as raised:
            await homing.call("demo.lost", {"account": "a1", "amount": 1200})
        assert (raised.value.reason, raised.value.retry) == ("connection_lost", "unsafe")
        assert [(each.account, each.amount) for each in provider.ledger] == [("a1", 1200)]

    with_demo(act)


def test_what_was_lost_is_found() -> None:
    async def act(homing: AsyncClient, process: OneProcess, provider: DemoProvider) -> None:
        charge: Any = await homing.call("demo.found", {"account": "a1", "amount": 1200})
        assert charge == msgspec.to_builtins(provider.ledger[0])
        assert provider.charges == 1

    with_demo(act)


def test_charge_and_ledger() -> None:
    async def act(homing: AsyncClient, process: OneProcess, provider: DemoProvider) -> None:
        charged: Any = await homing.call("demo.charge", {"account": "a1", "amount": 5})
        ledger: Any = await homing.call("demo.ledger")
        assert charged["id"] == "ch_1"
        assert (ledger["charges"], ledger["last"]) == (1, [charged])

    with_demo(act)


def test_flaky_is_as_flaky_as_asked() -> None:
    async def act(homing: AsyncClient, process: OneProcess, provider: DemoProvider) -> None:
        assert await homing.call("demo.flaky", {"failure_ratio": 0}) == {"luck": "good"}
        with pytest.raises(CallError) as raised:
            await homing.call("demo.flaky", {"failure_ratio": 1})
        assert raised.value.reason in ("provider_failed", "connection_lost")
        assert len(raised.value.attempts) == 3

    with_demo(act)


def test_the_provider_knows_its_own_mistakes() -> None:
    async def act(homing: AsyncClient, process: OneProcess, provider: DemoProvider) -> None:
        for head, body, status in (("GET /nothing", "", b"404"), ("POST /echo", "{", b"400")):
            reader, writer = await asyncio.open_connection("127.0.0.1", provider.port)
            text = f"{head} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}"
            writer.write(text.encode())
            assert status in (await reader.read()).split(b"\r\n")[0]
            writer.close()
            await writer.wait_closed()

    with_demo(act)


def test_an_address_that_is_taken_is_told() -> None:
    async def act(homing: AsyncClient, process: OneProcess, provider: DemoProvider) -> None:
        log = Log(os.open(os.devnull, os.O_WRONLY), human=False)
        with pytest.raises(OSError, match="in use"):
            await start_demo(log, listen=f"127.0.0.1:{process.port}", admin="127.0.0.1:0")
        log.close()

    with_demo(act)


def test_its_configuration_is_a_good_example() -> None:
    reading = read_demo(1)
    assert [problem for problem in reading.problems if not problem.warning] == []
    assert set(reading.methods) == {f"demo.{name}" for name in ["echo", "slow", "flaky", "charge", "lost", "found", "ledger"]}
    assert "[providers.demo]" in demo_config()
    wrong = read_demo(1, listen="nowhere")
    with pytest.raises(ConfigError):
        usable(wrong)
    assert json.dumps(sorted(reading.methods))
