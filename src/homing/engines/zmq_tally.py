"""What went wrong, counted each time and told once a minute: whoever sends junk must not fill the log as well."""

import asyncio
from collections import Counter
from collections.abc import Callable

SILENCE_S = 60.0


def _nothing(*_: str) -> None:
    """Nobody wants to know."""


class Tally:
    """`counts` by kind. `warn(kind, sentence)` is called at once, and then at most once a minute for each kind."""

    __slots__ = ("_count", "_kept", "_loop", "_warn", "counts")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        count: Callable[[str], None] = _nothing,
        warn: Callable[[str, str], None] = _nothing,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._loop = loop
        self._count = count
        self._warn = warn
        self._kept: dict[str, tuple[asyncio.TimerHandle, int, str]] = {}  # how many, and the last sentence, since it was told

    def add(self, kind: str, sentence: str = "") -> None:
        """Count one. Without a sentence it is only counted."""
        self.counts[kind] += 1
        self._count(kind)
        if not sentence:
            return
        kept = self._kept.get(kind)
        if kept is None:
            self._tell(kind, sentence)
        else:
            self._kept[kind] = (kept[0], kept[1] + 1, sentence)

    def close(self) -> None:
        """Tell what was not told yet, and nothing more."""
        for kind, (timer, more, sentence) in self._kept.items():
            timer.cancel()
            if more:
                self._warn(kind, _summed(more, sentence))
        self._kept.clear()

    def _tell(self, kind: str, sentence: str) -> None:
        self._kept[kind] = (self._loop.call_later(SILENCE_S, self._again, kind), 0, "")
        self._warn(kind, sentence)

    def _again(self, kind: str) -> None:
        _, more, sentence = self._kept.pop(kind)
        if more:
            self._tell(kind, _summed(more, sentence))


def _summed(more: int, sentence: str) -> str:
    return sentence if more == 1 else f"{sentence} ({more} times since this was last said)"
