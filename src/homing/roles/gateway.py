"""The life of a call, top to bottom: accept, authenticate, validate, admit, submit, settle.

Everything before `submit` refuses with a proven no. From `submit` on the call is in the table of `core.calls`, which settles it
exactly once; `settle` turns that into the answer.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from homing.core import jsonrpc
from homing.core.calls import Calls
from homing.core.limits import Gcra
from homing.core.machine import Abandoned, Action, Draining, DrainTimedOut, Event, Learn, Settle, Submitted
from homing.core.messages import GATEWAY_BYTES, MethodOffer
from homing.core.methods import Method, invalid_params
from homing.core.scalars import path_under
from homing.edges import rpc
from homing.edges.auth import Principal, Principals
from homing.edges.http import Exchange
from homing.errors import Outcome, failure
from homing.roles.askers import Answer, Asker, Batch
from homing.roles.lessons import Lessons, listed
from homing.telemetry import Log, Metrics

Headers: TypeAlias = list[tuple[bytes, bytes]]

TIMEOUT_MIN_S = 0.1


class GatewayLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What this process admits. Durations in seconds; patterns are exact names or beginnings that end in `*`."""

    deadline_default_s: float = 100.0
    deadline_max_s: float = 300.0
    batch_length_max: int = 1000
    in_flight_max: int = 20_000
    anonymous: tuple[str, ...] = ()
    origins: frozenset[str] = frozenset()
    health: bool = True
    heartbeat: bool = True  # whether the listener beats


class _Usage:
    """What one principal uses now. `methods` are those it has been let call before, `where` is its path in the configuration."""

    __slots__ = ("in_flight", "methods", "principal", "rate", "where")

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.where = path_under("principals", principal.name)
        self.rate = Gcra(principal.rate) if principal.rate is not None else None
        self.in_flight = 0
        self.methods: dict[str, Method] = {}


class _Open:
    """A call from admission to settlement, as the gateway's outside knows it.

    `asker` is the HTTP exchange of a call that came alone, `ordered` the method of one whose params came as an array.
    """

    __slots__ = (
        "admitted_at",
        "asker",
        "call_id",
        "gateway",
        "hex_id",
        "id",
        "index",
        "method",
        "ordered",
        "timeout_ms",
        "usage",
    )

    def __init__(
        self,
        gateway: "Gateway",
        asker: Exchange | Asker,
        index: int,
        id: bytes | None,
        call_id: bytes,
        hex_id: str,
        method: str,
        ordered: Method | None,
        usage: _Usage | None,
        admitted_at: float,
        timeout_ms: int,
    ) -> None:
        self.gateway = gateway
        self.asker = asker
        self.index = index
        self.id = id
        self.call_id = call_id
        self.hex_id = hex_id
        self.method = method
        self.ordered = ordered
        self.usage = usage
        self.admitted_at = admitted_at
        self.timeout_ms = timeout_ms

    def hung_up(self) -> None:
        """As that of a batch."""
        self.gateway.abandon(self.call_id)


class Gateway:
    """Takes exchanges from the listener, gives calls to the machine, and answers when they settle.

    `feed` gives an event to the machine; it is set by whoever joins the two.
    """

    feed: Callable[[Event], None]

    def __init__(
        self,
        machine: Calls,
        methods: Mapping[str, Method],
        principals: Principals,
        limits: GatewayLimits,
        *,
        log: Log,
        metrics: Metrics,
    ) -> None:
        self._configured = methods
        self._methods = methods  # the learnt ones among them
        self._principals = principals
        self._limits = limits
        self._log = log
        self._metrics = metrics
        self._head = machine.life[:GATEWAY_BYTES]
        self._random = b""  # drawn for many call ids at once
        self._drawn = 0
        self._usages: dict[str, _Usage] = {}
        self._open: dict[bytes, _Open] = {}
        self._emptied: asyncio.Event | None = None
        self._lessons = Lessons(configured=methods.keys(), log=log)
        self.draining = False
        self.ready = True  # readiness turns red before calls are refused, so that balancers see it in time

    def __len__(self) -> int:
        """How many calls are open."""
        return len(self._open)

    # accept

    def answer(self, exchange: Exchange) -> None:
        """One HTTP request. Never raises for what a caller sent."""
        known = exchange.head.known
        wishes = known if isinstance(known, _Wishes) else self._wishes_of(exchange)
        if wishes is None:
            return
        body, exchange.body = exchange.body, b""
        hopeless = self._is_hopeless(wishes)
        parsed = jsonrpc.parse(body, batch_length_max=self._limits.batch_length_max, envelopes_only=hopeless)
        if isinstance(parsed, jsonrpc.Batch):
            self._answer_batch(exchange, parsed, wishes)
            return
        call_id = self._new_call_id()
        if isinstance(parsed, jsonrpc.Call):
            refusal = wishes if isinstance(wishes, Outcome) else self._take(exchange, 0, parsed, wishes, call_id)
            if refusal is None:
                return
            self._log_item(call_id, parsed, wishes, refusal)
        else:
            refusal = parsed.outcome
            self._log_item(call_id, parsed, wishes, refusal)
        self._answer_one(exchange, parsed.id, refusal, call_id.hex(), 0)

    def _is_hopeless(self, wishes: "_Wishes | Outcome") -> bool:
        """Whether its head alone keeps every call of a body out."""
        if isinstance(wishes, Outcome):
            return True
        return wishes.usage is None and (wishes.principal is not None or not self._limits.anonymous)

    def _answer_batch(self, exchange: Exchange, items: jsonrpc.Batch, wishes: "_Wishes | Outcome") -> None:
        batch = Batch(exchange, len(items.items), close=self._close_batch, abandon=self.abandon)
        if isinstance(wishes, _Wishes) and wishes.key is not None:
            wishes = failure(
                "invalid_request", "Idempotency-Key names one call; in a batch put meta.idempotency_key beside each params."
            )
        for index, item in enumerate(items.items):
            call_id = self._new_call_id()
            if isinstance(item, jsonrpc.Refused):
                refusal: Outcome | None = item.outcome
            else:
                refusal = wishes if isinstance(wishes, Outcome) else self._take(batch, index, item, wishes, call_id)
            if refusal is not None:
                batch.answered(index, item.id, refusal, call_id.hex())
                self._log_item(call_id, item, wishes, refusal)
        batch.sealed = True
        batch.close_if_done()
        if batch.pending:
            exchange.abandoned = batch.hung_up
            self._start_heartbeat(exchange, None, 0)

    def ask(self, asker: Asker, parsed: jsonrpc.Call | jsonrpc.Refused, principal: Principal | None) -> None:
        """One call that did not come over HTTP, from whoever has been recognised there already. Never raises for what was sent."""
        wishes = _Wishes(principal, self._usage(principal) if principal is not None else None, None, None)
        call_id = self._new_call_id()
        refusal = self._take(asker, 0, parsed, wishes, call_id) if isinstance(parsed, jsonrpc.Call) else parsed.outcome
        if refusal is not None:
            asker.answered(0, parsed.id, refusal, call_id.hex())
            self._log_item(call_id, parsed, wishes, refusal)

    def lets_call(self, principal: Principal | None, name: str) -> bool:
        """Whether a method of this name is there for this principal."""
        return self._forbidden(principal, name, self._methods.get(name)) is None

    def _wishes_of(self, exchange: Exchange) -> "_Wishes | Outcome | None":
        """What the head of a request asks for; None if it was reason enough to answer already."""
        if self._limits.health and exchange.path in ("/livez", "/readyz") and exchange.method in ("GET", "HEAD"):
            well = self.ready or exchange.path == "/livez"
            exchange.answer(200 if well else 503, [] if well else [(b"Homing-Executed", b"no")], b"")
            return None
        if rpc.refuse_early(exchange, self._limits.origins, health=self._limits.health):
            return None
        wishes = self._wishes(exchange)
        if isinstance(wishes, _Wishes) and wishes.usage is not None and wishes.key is None:
            exchange.remember(wishes)  # all this hangs on the head alone; with a key in it, it would not come again
        return wishes

    def _wishes(self, exchange: Exchange) -> "_Wishes | Outcome":
        """What the headers ask for, for every call in the body."""
        timeout_s: float | None = None
        key: str | None = None
        principal = self._principals.authenticate(exchange.header(b"authorization"))
        if isinstance(principal, Outcome):
            return _Wishes(principal, None, None, None)  # whatever else is wrong is nothing to one whom nobody knows
        try:
            if (raw := exchange.header(b"homing-timeout")) is not None:
                timeout_s = jsonrpc.parse_timeout(raw.decode("latin-1"))
        except ValueError as error:
            return failure("invalid_request", f"Homing-Timeout: {error}")
        try:
            if (raw := exchange.header(b"idempotency-key")) is not None:
                key = jsonrpc.parse_idempotency_key(raw.decode("latin-1"))
        except ValueError as error:
            return failure("invalid_request", f"Idempotency-Key: {error}")
        usage = self._usage(principal) if principal is not None else None
        return _Wishes(principal, usage, timeout_s, key)

    # authenticate, validate, admit, submit

    def _take(self, asker: Exchange | Asker, index: int, call: jsonrpc.Call, wishes: "_Wishes", call_id: bytes) -> Outcome | None:
        """Take the call in, or say why not."""
        name, usage = call.method, wishes.usage
        method = usage.methods.get(name) if usage is not None else None
        if method is None:
            principal = wishes.principal
            if isinstance(principal, Outcome):
                return principal
            method = self._methods.get(name)
            refusal = self._forbidden(principal, name, method)
            if refusal is not None or method is None:
                return refusal
            if usage is not None:
                usage.methods[name] = method
        if call.id is None and method.effect == "once" and not method.notifications:
            return failure("invalid_request", f"{name} happens once at most: nobody would learn of its outcome. Send an id.")
        caller_key = call.idempotency_key if wishes.key is None else wishes.key
        if caller_key is None and method.key_required:
            return failure("invalid_params", f"{name} needs an idempotency key: send Idempotency-Key or meta.idempotency_key.")
        params, errors = method.validate(call.params)
        if errors:
            return invalid_params(errors)
        now = time.monotonic()
        refusal = self._over_limit(usage, now)
        if refusal is not None:
            return refusal
        asked_s = wishes.timeout_s if wishes.timeout_s is not None else call.timeout_s
        timeout_s = self._timeout_s(asked_s if asked_s is not None else method.deadline_s)
        timeout_ms = round(timeout_s * 1000)
        body = call.params_raw if params is call.params else jsonrpc.encode_value(params)
        hex_id = call_id.hex()
        ordered = method if isinstance(call.params, list) else None
        open_ = _Open(self, asker, index, call.id, call_id, hex_id, name, ordered, usage, now, timeout_ms)
        self._open[call_id] = open_
        if usage is not None:
            usage.in_flight += 1
        if not isinstance(asker, Exchange):
            if call.id is None:
                asker.answered(index, None, _OK, hex_id)
            else:
                asker.admitted(call_id)
        if caller_key is None:
            caller_key = hex_id
        self.feed(
            Submitted(
                call_id=call_id,
                service=method.service,
                method=name,
                deadline=now + timeout_s,
                timeout_ms=timeout_ms,
                effect=method.effect,
                principal=usage.principal.name if usage is not None else "",
                key=caller_key,
                caller_key=caller_key,
                body=body,
                attempts_max=method.attempts_max,
                key_lifetime_s=method.key_lifetime_s,
            )
        )
        if isinstance(asker, Exchange):
            self._wait(asker, open_)
        return None

    def _wait(self, exchange: Exchange, call: _Open) -> None:
        """The caller of a single call waits from now on, but if it was a notification, or has settled meanwhile."""
        if call.id is None:
            self._answer_one(exchange, None, _OK, call.hex_id, call.timeout_ms)
        elif exchange.reply is None:
            exchange.abandoned = call.hung_up
            self._start_heartbeat(exchange, call.hex_id, call.timeout_ms)

    def _start_heartbeat(self, exchange: Exchange, call_id: str | None, timeout_ms: int) -> None:
        """The head may leave before the answer, so a page must find in it already that the answer is for it."""
        if self._limits.heartbeat:
            cors = rpc.cors_headers(exchange, self._limits.origins)
            exchange.start_heartbeat([*rpc.heartbeat_headers(call_id, timeout_ms), *cors])

    def _forbidden(self, principal: Principal | None, name: str, method: Method | None) -> Outcome | None:
        """Deny by default."""
        if principal is None:
            if not _matches(name, self._limits.anonymous):
                return failure("unauthenticated", "This method needs an API key: send Authorization: Bearer hk_…")
        elif method is not None and not self._principals.allows(principal, name) and not _matches(name, self._limits.anonymous):
            return failure("forbidden", f"Principal {principal.name!r} may not call {name!r}: its `methods` do not name it.")
        if method is None:
            return failure("method_not_found", f"No method is named {name[:100]!r}.")
        return None

    def _usage(self, principal: Principal) -> _Usage:
        usage = self._usages.get(principal.name)
        if usage is None:
            usage = self._usages[principal.name] = _Usage(principal)
        return usage

    def _over_limit(self, usage: _Usage | None, now: float) -> Outcome | None:
        if self.draining:
            return failure("draining", "This gateway is going away; another one will take the call.", retry_after_ms=1000)
        if len(self._open) >= self._limits.in_flight_max:
            message = f"This gateway holds {self._limits.in_flight_max} calls already."
            return failure("overloaded", message, retry_after_ms=1000, limit="gateway.in_flight_max")
        if usage is None:
            return None
        principal, where = usage.principal, usage.where
        if principal.in_flight_max is not None and usage.in_flight >= principal.in_flight_max:
            message = f"Principal {principal.name!r} has {principal.in_flight_max} calls open already."
            return failure("overloaded", message, retry_after_ms=1000, limit=f"{where}.in_flight_max")
        if usage.rate is not None and (wait_s := usage.rate.take(now)) > 0:
            message = f"Principal {principal.name!r} calls more often than its rate allows."
            wait_ms = max(1, int(wait_s * 1000 + 0.999))
            return failure("rate_limited", message, retry_after_ms=wait_ms, limit=f"{where}.rate")
        return None

    def _timeout_s(self, asked_s: float | None) -> float:
        limits = self._limits
        return limits.deadline_default_s if asked_s is None else min(max(asked_s, TIMEOUT_MIN_S), limits.deadline_max_s)

    # settle

    def act(self, action: Action) -> None:
        """What the machine wants done, but for messages: answer a call, or learn what workers offer."""
        if type(action) is not Settle:
            if type(action) is Learn:
                self._learn(action.methods)
            return
        call = self._open.pop(action.call_id)
        if self._emptied is not None and not self._open:
            self._emptied.set()
        outcome = action.outcome
        if outcome.errors and call.ordered is not None:
            outcome = msgspec.structs.replace(outcome, errors=call.ordered.by_position(outcome.errors))
        who = ""
        usage = call.usage
        if usage is not None:
            usage.in_flight -= 1
            who = usage.principal.name
        notification = call.id is None
        asker = call.asker
        abandoned = asker.gone and not notification
        duration_s = time.monotonic() - call.admitted_at
        self._metrics.count(call.method, outcome, duration_s)
        self._log.call(call.hex_id, call.method, who, outcome, duration_s, abandoned=abandoned, notification=notification)
        if notification:
            return
        if isinstance(asker, Exchange):
            self._answer_one(asker, call.id, outcome, call.hex_id, call.timeout_ms)
        else:
            asker.answered(call.index, call.id, outcome, call.hex_id)

    def _answer_one(self, exchange: Exchange, id: bytes | None, outcome: Outcome, call_id: str, timeout_ms: int) -> None:
        """The answer to a request that is no batch."""
        if exchange.gone:
            return
        cors = rpc.cors_headers(exchange, self._limits.origins) if self._limits.origins else None
        if id is not None and outcome.reason == "ok" and not cors:
            exchange.answer_ok(*rpc.success(outcome.result, id, call_id, timeout_ms))
            return
        status, headers, body = rpc.single(outcome, id, call_id, timeout_ms)
        exchange.answer(status, [*headers, *cors] if cors else headers, body)

    def _close_batch(self, exchange: Exchange, answers: Sequence[Answer]) -> None:
        """The answer to a request that is a batch."""
        cors = rpc.cors_headers(exchange, self._limits.origins)
        status, headers, body = rpc.batch(answers)
        exchange.answer(status, [*headers, *cors] if cors else headers, body)

    def _log_item(
        self, call_id: bytes, item: jsonrpc.Call | jsonrpc.Refused, wishes: "_Wishes | Outcome", outcome: Outcome
    ) -> None:
        """The line of a request that was refused. A name that no method has is left out."""
        known = who = ""
        if isinstance(item, jsonrpc.Call):
            known = item.method if item.method in self._methods else ""
            if isinstance(wishes, _Wishes) and wishes.usage is not None:
                who = wishes.usage.principal.name
        self._metrics.count(known, outcome, 0.0)
        self._log.call(call_id.hex(), known, who, outcome, 0.0)

    def abandon(self, call_id: bytes) -> None:
        """Nobody waits for this call any more."""
        if call_id in self._open:
            self.feed(Abandoned(call_id))

    # drain

    def drain(self) -> None:
        """From now on new calls get `draining`."""
        self.draining = True
        self.feed(Draining())

    def give_up(self) -> None:
        """What still runs settles now."""
        self.feed(DrainTimedOut())

    async def drained(self) -> None:
        """Until no call is open."""
        if self._open:
            self._emptied = asyncio.Event()
            await self._emptied.wait()

    # learn

    @property
    def learnt(self) -> list[str]:
        """The methods that nobody configured, and workers offer."""
        return sorted(self._methods.keys() - self._configured.keys())

    def _learn(self, offers: Sequence[MethodOffer]) -> None:
        """From now on these methods are there beside the configured ones, and no others."""
        known = self.learnt
        self._methods = {**self._lessons.take(offers), **self._configured}
        for usage in self._usages.values():
            usage.methods.clear()  # what was looked up may be gone, or another by now
        if (learnt := self.learnt) != known and self._lessons.may_tell():
            self._log.event("learnt", f"Workers offer {listed(learnt)}.", methods=len(learnt))

    def _new_call_id(self) -> bytes:
        """Ours and 64 bits of the system's randomness, which is drawn a page at a time: a system call costs as much as a method."""
        start = self._drawn
        if start == len(self._random):
            self._random = os.urandom(4096)
            start = 0
        self._drawn = end = start + 8
        return self._head + self._random[start:end]


class _Wishes(msgspec.Struct, frozen=True):
    """What the HTTP headers say about every call in the body: who asks, for how long, under which key."""

    principal: Principal | Outcome | None
    usage: _Usage | None  # of the principal
    timeout_s: float | None
    key: str | None


_OK = Outcome(reason="ok", executed="unknown")


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])) for pattern in patterns)
