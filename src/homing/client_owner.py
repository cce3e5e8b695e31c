"""What owns the calls of a client that speaks to brokers: a gateway's machine on one event loop, without HTTP before it.

Who owns a call decides claims and keeps its deadline, so there is nobody between who could answer for it: what `core.calls` settles
is the answer. Which service and effect a method has, the workers say.
"""

import asyncio
import math
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

import msgspec

from homing.client_rpc import Answer, Errand, Question, envelope, error_of
from homing.core import jsonrpc
from homing.core.calls import Calls
from homing.core.machine import (
    Abandoned,
    Action,
    Draining,
    DrainTimedOut,
    Event,
    Learn,
    Peer,
    PeerFound,
    PeerLost,
    Settle,
    Submitted,
    Tell,
)
from homing.core.messages import GATEWAY_BYTES, MethodOffer
from homing.core.roster import gateway_life
from homing.driver import Driver, Station
from homing.errors import STRICTNESS, Effect, Outcome, failure

OWNER: Final = b"client"
TIMEOUT_S: Final = 100.0  # of a call, where neither the caller nor the method has a word on it
TIMEOUT_MAX_S: Final = 2_000_000.0  # 23 days; on the wire a time is no longer than 2^31 milliseconds
NAME_LENGTH_MAX: Final = 256  # as the wire has it
HEARTBEAT_S: Final = 1.0
LINGER_S: Final = 0.2  # for the last CANCELs, should a broker be slow to read
PATIENCE_S: Final = 1.0
"""How long after the first broker is there a method that no worker has offered yet is waited for."""


class Carrier(Station, Protocol):
    """An engine, as far as it is seen from here."""

    tell: Tell

    def attach(self, address: Peer, machine: Calls, act: Callable[[Action], None]) -> None: ...

    def close(self, linger_s: float = ...) -> None: ...


class Asked(msgspec.Struct, frozen=True):
    """A question that was found to be a request, and when it was asked. `timeout_s` None: the method's own."""

    question: Question
    body: bytes
    key: str | None
    asked_at: float
    timeout_s: float | None


class _Open(msgspec.Struct):
    """A call that has not settled. `held` until its method is known, or is not waited for any longer."""

    asked: Asked
    done: Callable[[Answer], None] | None  # None: nobody waits any more
    held: asyncio.TimerHandle | None = None


def read_question(question: Question, timeout_s: float | None, now: float) -> Asked | Outcome:
    """Look at a question as a gateway does that gets it as text; an Outcome is why it is none."""
    parsed = jsonrpc.parse(envelope(question), batch_length_max=1)
    if isinstance(parsed, jsonrpc.Refused):
        return parsed.outcome
    assert isinstance(parsed, jsonrpc.Call)  # an envelope is an object
    if not 1 <= len(question.method) <= NAME_LENGTH_MAX:
        return failure("method_not_found", f"No method is named {question.method[:100]!r}.")
    asked_s = timeout_s if timeout_s is not None else parsed.timeout_s
    return Asked(
        question, parsed.params_raw, parsed.idempotency_key, now, None if asked_s is None else min(asked_s, TIMEOUT_MAX_S)
    )


def answer_of(outcome: Outcome, call_id: str, question: Question) -> Answer:
    """Return what the caller gets: a result's JSON text, or the very error that a gateway's answer would have made."""
    if outcome.reason == "ok":
        result = outcome.result or jsonrpc.NULL
        if _is_utf8(result):
            return result
        outcome = failure("response_invalid", "The call was carried out, and its result is no UTF-8.", executed="yes")
    return error_of(jsonrpc.encode_error(outcome, call_id), outcome.executed, question)


def _is_utf8(text: bytes) -> bool:
    try:
        return text.isascii() or bool(text.decode())
    except UnicodeDecodeError:
        return False


class Owner:
    """Owns calls on one event loop, and belongs to it: everything here is called on its thread.

    `dial` says to the engine where the brokers are. `principal` is in whose name is called; "" leaves it to the key's permit.
    """

    def __init__(
        self,
        station: Carrier,
        loop: asyncio.AbstractEventLoop,
        dial: Callable[[], None],
        *,
        principal: str = "",
        heartbeat_s: float = HEARTBEAT_S,
        frame_bytes_max: int = sys.maxsize,
    ) -> None:
        self._loop = loop
        self._station = station
        self._principal = principal
        self._frame_bytes_max = frame_bytes_max
        self._machine = Calls(gateway_life(os.urandom(GATEWAY_BYTES)), heartbeat_s=heartbeat_s)
        self._driver = Driver(station, loop)
        self._open: dict[bytes, _Open] = {}
        self._offers: dict[str, MethodOffer] = {}
        self._brokers: set[Peer] = set()
        self._patient_until = math.inf  # until then a method that nobody offers may yet be offered
        self._impatience: asyncio.TimerHandle | None = None
        self._closing = False
        self.trouble = ""  # why there is no broker, a sentence for people, if the engine knows
        station.tell = self._tell
        station.attach(OWNER, self._machine, self._act)
        dial()

    def __len__(self) -> int:
        """How many calls have not settled, those included for which nobody waits."""
        return len(self._open)

    @property
    def offers(self) -> tuple[MethodOffer, ...]:
        """The methods that workers offer, as far as brokers have told."""
        return tuple(self._offers.values())

    @property
    def reached(self) -> bool:
        """Whether a broker is there."""
        return bool(self._brokers)

    def ask(self, asked: Asked, done: Callable[[Answer], None]) -> bytes:
        """Take a call in; `done` is called once, with its answer. Returns the call's id."""
        call_id = self._machine.life[:GATEWAY_BYTES] + os.urandom(8)
        call = self._open[call_id] = _Open(asked, done)
        if len(asked.body) > self._frame_bytes_max:
            message = f"The params have {len(asked.body)} bytes; a frame has at most {self._frame_bytes_max}."
            self._settled(call_id, failure("too_large", message, limit="broker.frame_bytes_max"))
            return call_id
        patience_s = 0.0 if self._knows(asked.question) else self._patience_s(asked)
        if patience_s > 0:
            call.held = self._loop.call_later(patience_s, self._submit, call_id)
        else:
            self._submit(call_id)
        return call_id

    def abandon(self, call_id: bytes) -> None:
        """Nobody waits for this call any more: if it has not begun, it will not; if it has, it runs to its end."""
        call = self._open.get(call_id)
        if call is None:
            return
        call.done = None
        if not self._settle_held(call_id):
            self._driver.feed(OWNER, Abandoned(call_id))

    def close(self) -> None:
        """Settle everything: what has not begun is cancelled, of what has nobody will know. Then hang up."""
        self._closing = True
        self._driver.feed(OWNER, Draining())
        for call_id in list(self._open):
            if not self._settle_held(call_id):
                self._driver.feed(OWNER, Abandoned(call_id))
        self._driver.feed(OWNER, DrainTimedOut())
        self.forsake()

    def forsake(self) -> None:
        """Hang up without a word: for a loop that has ended, on which nobody can be told anything any more."""
        self._hush()
        self._driver.close()
        self._station.close(LINGER_S)

    # What a method is

    def _knows(self, question: Question) -> bool:
        return question.method in self._offers or (question.service is not None and question.effect is not None)

    def _patience_s(self, asked: Asked) -> float:
        """How long to wait for the method to be offered: never more than half of the call's time."""
        now = time.monotonic()
        left = (TIMEOUT_S if asked.timeout_s is None else asked.timeout_s) - (now - asked.asked_at)
        return min(self._patient_until - now, left / 2)

    def _service_and_effect(self, question: Question, offer: MethodOffer | None) -> tuple[str, Effect]:
        """What the caller says, else what is offered, else a guess: that it must not happen twice. Of two effects the stricter counts."""
        service = question.service or (
            offer.service if offer is not None else question.method.partition(".")[0] or question.method
        )
        said = [effect for effect in (question.effect, offer.effect if offer is not None else None) if effect is not None]
        return service, max(said, key=STRICTNESS.__getitem__, default="once")

    def _submit(self, call_id: bytes) -> None:
        """Give the call to the machine, which owns it from now on."""
        call = self._open[call_id]
        if call.held is not None:
            call.held.cancel()
            call.held = None
        asked, question = call.asked, call.asked.question
        offer = self._offers.get(question.method)
        service, effect = self._service_and_effect(question, offer)
        timeout_s = asked.timeout_s
        if timeout_s is None:
            timeout_s = offer.timeout_ms / 1000 if offer is not None and offer.timeout_ms > 0 else TIMEOUT_S
        key = asked.key if asked.key is not None else call_id.hex()
        submitted = Submitted(
            call_id=call_id,
            service=service,
            method=question.method,
            deadline=asked.asked_at + timeout_s,
            timeout_ms=round(timeout_s * 1000),
            effect=effect,
            principal=self._principal,
            key=key,
            caller_key=key,
            body=asked.body,
        )
        try:
            self._driver.feed(OWNER, submitted)
        except Exception as error:  # a fault of ours: whoever waits is told at once, not never
            self._loop.call_exception_handler({"message": "homing: a call could not be submitted", "exception": error})
            self._settled(call_id, failure("internal_error", f"A fault of the client's own: {error!r}"))

    def _settle_held(self, call_id: bytes) -> bool:
        """Settle a call that the machine has not been given, as the machine would; False if it has."""
        call = self._open.get(call_id)
        if call is None or call.held is None:
            return call is None
        call.held.cancel()
        self._settled(call_id, failure("cancelled", "The caller hung up.", executed="no"))
        return True

    def _submit_held(self, *, known: bool) -> None:
        """Submit what was waited for: those whose method is known by now, or all."""
        for call_id in [call_id for call_id, call in self._open.items() if call.held is not None]:
            if not known or self._knows(self._open[call_id].asked.question):
                self._submit(call_id)

    # What the engine and the machine say

    def _tell(self, address: Peer, /, *events: Event) -> None:
        """What sockets bring. When the first broker is there, methods are waited for a little while."""
        event = events[0]  # whatever is no message comes alone
        if type(event) is PeerFound:
            if not self._brokers:
                self._hush()
                self._patient_until = time.monotonic() + PATIENCE_S
                self._impatience = self._loop.call_later(PATIENCE_S, partial(self._submit_held, known=False))
            self._brokers.add(event.peer)
            self.trouble = ""
        elif type(event) is PeerLost:
            self._brokers.discard(event.peer)
            if not self._brokers:
                self._hush()
                self._patient_until = math.inf
        self._driver.feed(address, *events)

    def _hush(self) -> None:
        if self._impatience is not None:
            self._impatience.cancel()
            self._impatience = None

    def _act(self, action: Action) -> None:
        if type(action) is Settle:
            self._settled(action.call_id, action.outcome)
        elif type(action) is Learn:
            self._offers = {offer.name: offer for offer in action.methods}
            self._loop.call_soon(self._learnt)

    def _learnt(self) -> None:
        if not self._closing:
            self._submit_held(known=True)

    def _settled(self, call_id: bytes, outcome: Outcome) -> None:
        call = self._open.pop(call_id, None)
        if call is None or call.done is None:
            return
        if self._closing and outcome.reason == "cancelled":
            begun = "while the call was being carried out" if outcome.executed != "no" else "before a worker could begin"
            outcome = msgspec.structs.replace(outcome, message=f"The client was closed {begun}.")
        elif self.trouble and outcome.reason == "broker_lost":
            outcome = msgspec.structs.replace(outcome, message=f"{outcome.message} {self.trouble}")
        try:
            answer = answer_of(outcome, call_id.hex(), call.asked.question)
        except Exception as error:  # a fault of ours: whoever waits is told at once, not never
            self._loop.call_exception_handler({"message": "homing: an outcome could not be told", "exception": error})
            executed = "yes" if outcome.reason == "ok" else outcome.executed
            outcome = failure("internal_error", f"How the call ended cannot be told: {error!r}", executed=executed)
            answer = answer_of(outcome, call_id.hex(), call.asked.question)
        call.done(answer)


class Gathering:
    """The answers to what an errand has open, as they come; `done` is called when the last is there.

    Made by the caller, who may be on any thread. `begin` and `abandon` are called on the owner's.
    """

    def __init__(self, errand: Errand, now: float, done: Callable[[], None]) -> None:
        timeout_s = None if errand.timeout is None else errand.until - now
        self._questions = errand.open()
        self._asked = [read_question(question, timeout_s, now) for question in self._questions]
        self._done = done
        self._left = len(self._asked)
        self._owner: Owner | None = None
        self._call_ids: list[bytes] = []
        self.answers: list[Answer] = [b""] * self._left

    def begin(self, owner: Owner) -> None:
        """Ask all of it at once."""
        self._owner = owner
        for index, asked in enumerate(self._asked):
            if isinstance(asked, Outcome):
                self._take(index, answer_of(asked, os.urandom(16).hex(), self._questions[index]))
            else:
                self._call_ids.append(owner.ask(asked, partial(self._take, index)))

    def abandon(self) -> None:
        """Nobody waits any more."""
        if self._owner is not None:
            for call_id in self._call_ids:
                self._owner.abandon(call_id)

    def _take(self, index: int, answer: Answer) -> None:
        self.answers[index] = answer
        self._left -= 1
        if not self._left:
            self._done()
