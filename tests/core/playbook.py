"""Conversations with a machine: an event in, the actions out, the clock moved by hand.

    play = Playbook(Calls(GATEWAY))
    play.hears(PeerFound(BROKER)).says(Send(BROKER, Hello(GATEWAY)))
    play.passes(1.5).says(like(Settle, outcome=like(Outcome, reason="expired")))

What a machine said must be looked at before the next event, so that a test cannot overlook an action. After every event the machine
is asked for its next deadline, and a `Tick` must move that on: a machine that wants the same instant again would turn for ever.
"""

from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from homing.core.machine import Action, Event, Peer, Received, Send, Tick
from homing.core.messages import Message


class SomeMachine(Protocol):
    def handle(self, event: Event, now: float) -> list[Action]: ...
    def next_deadline(self) -> float | None: ...


M = TypeVar("M", bound=SomeMachine)
TICKS_MAX = 10_000


class Like:
    """Equal to anything of its kind whose named fields are equal: the rest is of no interest to the test."""

    def __init__(self, kind: type, /, **fields: object) -> None:
        self.kind = kind
        self.fields = fields

    def __eq__(self, other: object) -> bool:
        return isinstance(other, self.kind) and all(getattr(other, name) == value for name, value in self.fields.items())

    def __hash__(self) -> int:
        return hash(self.kind)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.fields.items())
        return f"like({self.kind.__name__}{', ' * bool(fields)}{fields})"


def like(kind: type, /, **fields: object) -> Any:
    """`like(Outcome, reason="expired")` is any outcome with that reason; `like(Start)` is any start."""
    return Like(kind, **fields)


class Said:
    """What a machine said to one event, or while time passed."""

    def __init__(self, actions: Sequence[Action]) -> None:
        self.actions = list(actions)
        self.seen = not self.actions

    def says(self, *expected: object) -> "Said":
        """Exactly these actions, in this order."""
        self.seen = True
        assert self.actions == list(expected), _difference(self.actions, expected)
        return self

    def says_nothing(self) -> None:
        self.says()

    def says_among_others(self, *expected: object) -> "Said":
        """These actions, in this order, and maybe more."""
        self.seen = True
        rest = iter(self.actions)
        assert all(any(action == one for action in rest) for one in expected), _difference(self.actions, expected)
        return self

    def never_says(self, *kinds: object) -> "Said":
        """None of these actions, and no message of these kinds."""
        self.seen = True
        for kind in kinds:
            assert not self.all(kind) if isinstance(kind, type) else kind not in self.actions, self.actions
        return self

    def whatever(self) -> "Said":
        """Of no interest here."""
        self.seen = True
        return self

    def all(self, kind: type) -> list[Any]:
        """Every action, or message sent, of this kind."""
        self.seen = True
        found: list[Any] = []
        for action in self.actions:
            if isinstance(action, kind):
                found.append(action)
            elif isinstance(action, Send) and isinstance(action.message, kind):
                found.append(action.message)
        return found

    def one(self, kind: type) -> Any:
        """The only action, or message sent, of this kind."""
        found = self.all(kind)
        assert len(found) == 1, f"{len(found)} of {kind.__name__} among {self.actions}"
        return found[0]


class Playbook(Generic[M]):
    """One machine, one clock. `check` looks at the machine after every event."""

    def __init__(self, machine: M, *, now: float = 0.0, check: Callable[[M], None] | None = None) -> None:
        self.machine = machine
        self.now = now
        self._check = check
        self._last = Said([])

    def at(self, now: float) -> "Playbook[M]":
        """The clock, moved by hand; nobody ticks."""
        assert now >= self.now, "time does not run backwards"
        self.now = now
        return self

    def hears(self, *events: Event) -> Said:
        """Some events at the present instant, and all that the machine says to them."""
        assert self._last.seen, f"nobody looked at {self._last.actions}"
        actions: list[Action] = []
        for event in events:
            actions += self._handle(event)
        self._last = Said(actions)
        return self._last

    def gets(self, peer: Peer, *messages: Message) -> Said:
        """Messages from a peer."""
        return self.hears(*(Received(peer, message) for message in messages))

    def passes(self, seconds: float) -> Said:
        """Let time pass, with a tick at every instant the machine asks for."""
        assert self._last.seen, f"nobody looked at {self._last.actions}"
        until, actions = self.now + seconds, []
        for _ in range(TICKS_MAX):
            due = self.machine.next_deadline()
            if due is None or due > until:
                break
            self.now = max(self.now, due)
            actions += self._handle(Tick())
            again = self.machine.next_deadline()
            assert again is None or again > self.now, "a tick that changes nothing comes again at once"
        else:
            raise AssertionError(f"{TICKS_MAX} ticks in {seconds} s")
        self.now = until
        self._last = Said(actions)
        return self._last

    def _handle(self, event: Event) -> list[Action]:
        actions = self.machine.handle(event, self.now)
        assert isinstance(actions, list)
        self.machine.next_deadline()
        if self._check is not None:
            self._check(self.machine)
        return actions


def _difference(actions: Sequence[object], expected: Sequence[object]) -> str:
    said = "\n".join(f"    {action}" for action in actions) or "    nothing"
    meant = "\n".join(f"    {action}" for action in expected) or "    nothing"
    return f"said\n{said}\nand not\n{meant}"
