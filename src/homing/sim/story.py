"""What happened to one call, step by step, for somebody who has to find a fault: the shortest useful trace of a seed."""

import msgspec

from homing.core.machine import Action, Event, Received, Send
from homing.errors import Outcome
from homing.sim.process import Process


class Story:
    """Keeps every step that concerns the call `call_id`, and what meanwhile befell those who took part; without a call, every step.

    Of more than `lines_max` lines the last are kept.
    """

    def __init__(self, call_id: bytes | None, lines_max: int = 200) -> None:
        self._call_id = call_id
        self._lines_max = lines_max
        self._lines: list[tuple[str, tuple[Process, ...]]] = []  # with whom a fault befell; nobody for a step
        self._took_part: set[int] = set()

    def event(self, now: float, process: Process, event: Event) -> None:
        """A process is about to handle an event."""
        if isinstance(event, Received):
            self._step(now, process, "<", event.peer.decode(), event.message)
        else:
            self._step(now, process, "<", "", event)

    def action(self, now: float, process: Process, action: Action) -> None:
        """It wants something done."""
        if isinstance(action, Send):
            self._step(now, process, ">", action.peer.decode(), action.message)
        else:
            self._step(now, process, ">", "", action)

    def fault(self, now: float, befallen: tuple[Process, ...], what: str) -> None:
        """Something befell processes, or the wire between them."""
        if self._call_id is None or self._took_part:
            self._keep(f"{now:10.4f}  {' – '.join(map(str, befallen)):<14} * {what}", befallen)

    def lines(self) -> list[str]:
        """The story so far."""
        told = [
            line
            for line, befallen in self._lines
            if self._call_id is None or all(process.index in self._took_part for process in befallen)
        ]
        return told[-self._lines_max :]

    def _step(self, now: float, process: Process, arrow: str, peer: str, what: msgspec.Struct) -> None:
        if self._call_id is None or getattr(what, "call_id", None) == self._call_id:
            self._took_part.add(process.index)
            self._keep(f"{now:10.4f}  {process!s:<14} {arrow} {peer:<14} {_said(what)}", ())

    def _keep(self, line: str, befallen: tuple[Process, ...]) -> None:
        self._lines.append((line, befallen))
        if self._call_id is None and len(self._lines) > 2 * self._lines_max:
            del self._lines[: -self._lines_max]


def _said(what: msgspec.Struct) -> str:
    """The type's name, and the fields worth reading: ids by their heads, outcomes by reason and executed."""
    words = [type(what).__name__]
    for name, value in msgspec.structs.asdict(what).items():
        match value:
            case Outcome():
                words.append(f"{value.reason}/{value.executed}")
            case bytes() if name in ("life", "peer_life"):
                words.append(f"{name}={value[:3].hex()}")
            case bytes() | tuple() | "" | None:
                pass
            case float():
                words.append(f"{name}={value:.4f}")
            case _ if name in (
                "claim",
                "number",
                "remaining_ms",
                "kind",
                "reason",
                "executed",
                "effect",
                "method",
                "late",
                "lookup",
            ):
                words.append(f"{name}={value}")
            case _:
                pass
    return " ".join(words)
