"""What a broker has to tell gateways of lives that are lost, until they have seen it."""

from collections import OrderedDict
from typing import TypeAlias

from homing.core.machine import Life
from homing.core.messages import GATEWAY_BYTES, Lost, LostSeen

Loss: TypeAlias = tuple[bytes, Life, int]

LOST_EVERY_S = 0.5
STRAY_LOST_S = 300.0  # how long a loss is worth repeating whose call's deadline is not known
LOSSES_MAX = 10_000  # beyond that the oldest is forgotten: its call ends at its deadline


class Losses:
    """LOST not yet seen, and until when each is worth repeating. A gateway that is away may come back for it."""

    __slots__ = ("_again_at", "_until")

    def __init__(self) -> None:
        self._until: OrderedDict[Loss, float] = OrderedDict()  # a dict would look for its oldest longer and longer
        self._again_at: float | None = None

    def __len__(self) -> int:
        return len(self._until)

    def add(self, call_id: bytes, life: Life, claim: int, until: float, now: float) -> Lost:
        """One more, to be told now and repeated."""
        self._until[call_id, life, claim] = until
        if len(self._until) > LOSSES_MAX:
            self._until.popitem(last=False)
        if self._again_at is None:
            self._again_at = now + LOST_EVERY_S
        return Lost(call_id, life, claim)

    def seen(self, loss: LostSeen) -> None:
        """The gateway has seen it."""
        self._until.pop((loss.call_id, loss.life, loss.claim), None)
        self._rest()

    def back(self, life: Life) -> None:
        """This life was not lost after all: what was said of all its claims must not be said of those to come."""
        for loss in [loss for loss in self._until if loss[1] == life and loss[2] == 0]:
            del self._until[loss]
        self._rest()

    def of(self, head: bytes) -> list[Lost]:
        """Those of one gateway."""
        return [Lost(*loss) for loss in self._until if loss[0][:GATEWAY_BYTES] == head]

    def due(self, now: float) -> list[Lost]:
        """All that are to be told again now."""
        if self._again_at is None or now < self._again_at:
            return []
        self._until = OrderedDict((loss, until) for loss, until in self._until.items() if until > now)
        self._again_at = now + LOST_EVERY_S
        self._rest()
        return [Lost(*loss) for loss in self._until]

    def next_deadline(self) -> float | None:
        """When to tell them again."""
        return self._again_at

    def _rest(self) -> None:
        if not self._until:
            self._again_at = None
