"""Who is owed answers by other ways than one HTTP exchange for each."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

from homing.edges.http import Exchange
from homing.errors import Outcome, failure

Answer: TypeAlias = tuple[bytes | None, Outcome, str]
"""The JSON-RPC id, None for a notification; the outcome; the call id as text."""

_NO_ANSWER: Answer = (None, failure("internal_error", "The call was never answered."), "")


class Asker(Protocol):
    """Whom the answers of calls are owed that did not come alone in an HTTP request."""

    @property
    def gone(self) -> bool:
        """Whether nobody is there any more."""
        ...

    def admitted(self, call_id: bytes) -> None:
        """This call is open from now on: abandon it if the asker goes."""
        ...

    def answered(self, index: int, id: bytes | None, outcome: Outcome, call_id: str) -> None:
        """The answer to the call of this index. An `id` of None is a notification's, which is admitted and no more."""
        ...


class Batch:
    """What the body of a batch is owed: an answer for each request in it, in order, and nothing before all are there."""

    __slots__ = ("_abandon", "_close", "answers", "call_ids", "exchange", "pending", "sealed")

    def __init__(
        self,
        exchange: Exchange,
        length: int,
        *,
        close: Callable[[Exchange, list[Answer]], None],
        abandon: Callable[[bytes], None],
    ) -> None:
        self._close = close
        self._abandon = abandon
        self.exchange = exchange
        self.answers: list[Answer] = [_NO_ANSWER] * length
        self.call_ids: list[bytes] = []  # admitted and not a notification: cancelled if the caller hangs up
        self.pending = length
        self.sealed = False  # until every item has been looked at: what is not answered then is open

    @property
    def gone(self) -> bool:
        """Whether the caller has hung up."""
        return self.exchange.gone

    def admitted(self, call_id: bytes) -> None:
        """One more is open."""
        self.call_ids.append(call_id)

    def answered(self, index: int, id: bytes | None, outcome: Outcome, call_id: str) -> None:
        """One less is owed."""
        self.answers[index] = (id, outcome, call_id)
        self.pending -= 1
        self.close_if_done()

    def close_if_done(self) -> None:
        """Give the answer, if it is all there."""
        if self.sealed and not self.pending and not self.exchange.gone:
            self._close(self.exchange, self.answers)

    def hung_up(self) -> None:
        """The caller is gone: what is queued is cancelled, what has begun runs to its end. Notifications go on."""
        for call_id in self.call_ids:
            self._abandon(call_id)
