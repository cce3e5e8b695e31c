"""How a round begins: on ports that nobody else has."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from chaos import stage as stages
from chaos.ports import PortTaken, free_port
from chaos.rounds import STARTS_MAX, staged
from chaos.shapes import Shape

SMALL = Shape(gateways=1, brokers=1, workers=0, curve=True)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port where another program listens, and answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def gives(monkeypatch: pytest.MonkeyPatch, *first: int | None) -> None:
    """`free_port` errs so often; None is for when it does not."""
    ports = iter(first)
    monkeypatch.setattr(stages, "free_port", lambda: next(ports, None) or free_port())


@pytest.mark.timeout(120)
def test_a_port_that_another_program_has_taken_is_another_one_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """First the gateway's, then the provider's, then the broker's: with the admin ports each start asks for five."""
    gives(monkeypatch, taken, *[None] * 5, taken, *[None] * 5, taken)

    async def main() -> None:
        stage = await staged(tmp_path, SMALL)
        try:
            assert all(process.running for process in stage.processes)
            assert taken not in (*stage.gateway_ports, stage._provider_port)
        finally:
            assert await stage.close() == []
            await stage.kill()

    asyncio.run(main())


@pytest.mark.timeout(120)
def test_who_finds_no_port_at_all_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: int) -> None:
    monkeypatch.setattr("chaos.rounds.STARTS_MAX", 1)
    monkeypatch.setattr(stages, "free_port", lambda: taken)
    with pytest.raises(PortTaken, match="somebody else listens where"):
        asyncio.run(staged(tmp_path, SMALL))


@pytest.mark.timeout(60)
def test_what_ends_at_its_start_for_another_reason_is_no_matter_of_ports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[Path] = []

    def junk(**_: object) -> str:
        starts.append(tmp_path)
        return "junk"

    monkeypatch.setattr(stages, "tables", junk)
    with pytest.raises(RuntimeError, match="ended as soon as it was started"):
        asyncio.run(staged(tmp_path, SMALL))
    assert len(starts) == 2 < STARTS_MAX, "a file each for worker and desk, once"
