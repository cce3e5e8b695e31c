import asyncio

import pytest

from homing.engines import zmq_tally
from homing.engines.zmq_tally import Tally
from tests.loops import run, until


@pytest.fixture(autouse=True)
def _short_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq_tally, "SILENCE_S", 0.05)


def test_each_is_counted_and_only_the_first_is_told_at_once() -> None:
    async def main() -> None:
        counted: list[str] = []
        told: list[tuple[str, str]] = []
        tally = Tally(asyncio.get_running_loop(), counted.append, lambda kind, sentence: told.append((kind, sentence)))
        for number in range(5):
            tally.add("header", f"Junk {number}.")
        tally.add("type", "Another kind.")
        assert told == [("header", "Junk 0."), ("type", "Another kind.")]
        assert counted == ["header"] * 5 + ["type"]
        assert tally.counts == {"header": 5, "type": 1}
        await until(lambda: len(told) > 2)
        assert told[2] == ("header", "Junk 4. (4 times since this was last said)")
        tally.close()
        assert len(told) == 3

    run(main())


def test_after_a_silence_the_next_is_told_at_once_again() -> None:
    async def main() -> None:
        told: list[str] = []
        tally = Tally(asyncio.get_running_loop(), warn=lambda kind, sentence: told.append(sentence))
        tally.add("header", "One.")
        await asyncio.sleep(0.2)
        tally.add("header", "Two.")
        assert told == ["One.", "Two."]
        tally.close()

    run(main())


def test_what_was_not_told_yet_is_told_at_the_end() -> None:
    async def main() -> None:
        told: list[str] = []
        tally = Tally(asyncio.get_running_loop(), warn=lambda kind, sentence: told.append(sentence))
        tally.add("header", "One.")
        tally.add("header", "Two.")
        tally.add("type", "Alone.")
        tally.close()
        assert told == ["One.", "Alone.", "Two."]

    run(main())


def test_without_a_sentence_it_is_only_counted() -> None:
    async def main() -> None:
        tally = Tally(asyncio.get_running_loop(), warn=lambda kind, sentence: pytest.fail(sentence))
        tally.add("unreachable")
        assert tally.counts == {"unreachable": 1}
        tally.close()

    run(main())
