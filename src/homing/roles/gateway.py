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
from homing.core.machine import Abandoned, Action, Draining, DrainTimedOut, Event, Settle, Submitted
from homing.core.messages import GATEWAY_BYTES
from homing.core.methods import Method
from homing.edges import rpc
from homing.edges.auth import Principal, Principals
from homing.edges.http import Exchange
from homing.errors import Outcome, ParamError, failure
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


class _Usage:
    """What one principal uses now."""

    __slots__ = ("in_flight", "principal", "rate")

    def __init__(self, principal: Principal) -> None:
        self.principal = principal
        self.rate = Gcra(principal.rate) if principal.rate is not None else None
        self.in_flight = 0


class _Reply:
    """What one HTTP body is owed: an answer for each request in it, in order, and nothing before all are there."""

    __slots__ = ("answers", "call_ids", "exchange", "is_batch", "pending", "sealed")

    def __init__(self, exchange: Exchange, *, is_batch: bool, length: int) -> None:
        self.exchange = exchange
        self.is_batch = is_batch
        self.answers: list[tuple[bytes | None, Outcome, str, int]] = [_NO_ANSWER] * length
        self.call_ids: list[bytes] = []  # admitted and not a notification: cancelled if the caller hangs up
        self.pending = length
        self.sealed = False


_NO_ANSWER = (None, failure("internal_error", "The call was never answered."), "", 0)


class _Open:
    """A call from admission to settlement, as the gateway's outside knows it."""

    __slots__ = ("admitted_at", "id", "index", "method", "reply", "timeout_ms", "usage")

    def __init__(
        self, reply: _Reply, index: int, id: bytes | None, method: str, usage: _Usage | None, admitted_at: float, timeout_ms: int
    ) -> None:
        self.reply = reply
        self.index = index
        self.id = id
        self.method = method
        self.usage = usage
        self.admitted_at = admitted_at
        self.timeout_ms = timeout_ms


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
        self._methods = methods
        self._principals = principals
        self._limits = limits
        self._log = log
        self._metrics = metrics
        self._head = machine.life[:GATEWAY_BYTES]
        self._usages: dict[str, _Usage] = {}
        self._open: dict[bytes, _Open] = {}
        self._emptied: asyncio.Event | None = None
        self.draining = False
        self.ready = True  # readiness turns red before calls are refused, so that balancers see it in time

    def __len__(self) -> int:
        """How many calls are open."""
        return len(self._open)

    # accept

    def answer(self, exchange: Exchange) -> None:
        """One HTTP request. Never raises for what a caller sent."""
        if self._limits.health and exchange.path in ("/livez", "/readyz") and exchange.method in ("GET", "HEAD"):
            well = self.ready or exchange.path == "/livez"
            exchange.answer(200 if well else 503, [], b"")
            return
        if rpc.refuse_early(exchange, self._limits.origins):
            return
        body, exchange.body = exchange.body, b""
        parsed = jsonrpc.parse(body, batch_length_max=self._limits.batch_length_max)
        if isinstance(parsed, jsonrpc.Batch):
            self._answer_batch(exchange, parsed)
        else:
            reply = _Reply(exchange, is_batch=False, length=1)
            self._answer_item(reply, 0, parsed, self._wishes(exchange))
            self._seal(reply)

    def _answer_batch(self, exchange: Exchange, batch: jsonrpc.Batch) -> None:
        reply = _Reply(exchange, is_batch=True, length=len(batch.items))
        wishes = self._wishes(exchange)
        if isinstance(wishes, _Wishes) and wishes.key is not None:
            wishes = failure(
                "invalid_request", "Idempotency-Key names one call; in a batch put meta.idempotency_key beside each params."
            )
        for index, item in enumerate(batch.items):
            self._answer_item(reply, index, item, wishes)
        self._seal(reply)

    def _answer_item(self, reply: _Reply, index: int, item: jsonrpc.Call | jsonrpc.Refused, wishes: "_Wishes | Outcome") -> None:
        call_id = self._new_call_id()
        if isinstance(item, jsonrpc.Refused):
            self._answered(reply, index, item.id, item.outcome, call_id, 0)
            self._log_refusal(call_id, "", "", item.outcome)
            return
        refusal = wishes if isinstance(wishes, Outcome) else self._take(reply, index, item, wishes, call_id)
        if refusal is not None:
            self._answered(reply, index, item.id, refusal, call_id, 0)
            known = item.method if item.method in self._methods else ""
            who = wishes.principal.name if isinstance(wishes, _Wishes) and isinstance(wishes.principal, Principal) else ""
            self._log_refusal(call_id, known, who, refusal)

    def _wishes(self, exchange: Exchange) -> "_Wishes | Outcome":
        """What the headers ask for, for every call in the body."""
        timeout_s: float | None = None
        key: str | None = None
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
        return _Wishes(self._principals.authenticate(exchange.header(b"authorization")), timeout_s, key)

    # authenticate, validate, admit, submit

    def _take(self, reply: _Reply, index: int, call: jsonrpc.Call, wishes: "_Wishes", call_id: bytes) -> Outcome | None:
        """Take the call in, or say why not."""
        principal = wishes.principal
        if isinstance(principal, Outcome):
            return principal
        method = self._methods.get(call.method)
        refusal = self._forbidden(principal, call.method, method)
        if refusal is not None or method is None:
            return refusal
        if call.id is None and method.effect == "once" and not method.notifications:
            return failure(
                "invalid_request", f"{call.method} happens once at most: nobody would learn of its outcome. Send an id."
            )
        caller_key = call.idempotency_key if wishes.key is None else wishes.key
        if caller_key is None and method.key_required:
            return failure(
                "invalid_params", f"{call.method} needs an idempotency key: send Idempotency-Key or meta.idempotency_key."
            )
        params, errors = method.validate(call.params)
        if errors:
            return failure("invalid_params", _first(errors), errors=errors)
        usage = self._usage(principal) if principal is not None else None
        now = time.monotonic()
        refusal = self._over_limit(usage, now)
        if refusal is not None:
            return refusal
        timeout_s = self._timeout_s(wishes.timeout_s, call.timeout_s, method.deadline_s)
        timeout_ms = round(timeout_s * 1000)
        body = call.params_raw if params is call.params else jsonrpc.encode_value(params)
        self._open[call_id] = _Open(reply, index, call.id, call.method, usage, now, timeout_ms)
        if usage is not None:
            usage.in_flight += 1
        if call.id is None:
            self._answered(reply, index, None, _OK, call_id, timeout_ms)
        else:
            reply.call_ids.append(call_id)
        self.feed(
            Submitted(
                call_id=call_id,
                service=method.service,
                method=call.method,
                deadline=now + timeout_s,
                timeout_ms=timeout_ms,
                effect=method.effect,
                principal=principal.name if principal is not None else "",
                key=caller_key or call_id.hex(),
                caller_key=caller_key or call_id.hex(),
                body=body,
                attempts_max=method.attempts_max,
                key_lifetime_s=method.key_lifetime_s,
            )
        )
        return None

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
        principal = usage.principal
        if principal.in_flight_max is not None and usage.in_flight >= principal.in_flight_max:
            message = f"Principal {principal.name!r} has {principal.in_flight_max} calls open already."
            return failure("overloaded", message, retry_after_ms=1000, limit=f"principals.{principal.name}.in_flight_max")
        if usage.rate is not None and (wait_s := usage.rate.take(now)) > 0:
            message = f"Principal {principal.name!r} calls more often than its rate allows."
            wait_ms = max(1, int(wait_s * 1000 + 0.999))
            return failure("rate_limited", message, retry_after_ms=wait_ms, limit=f"principals.{principal.name}.rate")
        return None

    def _timeout_s(self, header_s: float | None, meta_s: float | None, method_s: float | None) -> float:
        limits = self._limits
        for asked_s in (header_s, meta_s, method_s):
            if asked_s is not None:
                return min(max(asked_s, TIMEOUT_MIN_S), limits.deadline_max_s)
        return limits.deadline_default_s

    # settle

    def act(self, action: Action) -> None:
        """What the machine wants done, but for messages: answer a call."""
        if not isinstance(action, Settle):
            return
        call = self._open.pop(action.call_id)
        if self._emptied is not None and not self._open:
            self._emptied.set()
        outcome = action.outcome
        if call.usage is not None:
            call.usage.in_flight -= 1
        abandoned = call.id is not None and call.reply.exchange.gone
        duration_s = time.monotonic() - call.admitted_at
        call_id = action.call_id.hex()
        self._metrics.count(call.method, outcome, duration_s)
        who = call.usage.principal.name if call.usage is not None else ""
        self._log.call(call_id, call.method, who, outcome, duration_s, abandoned=abandoned, notification=call.id is None)
        if call.id is not None:
            self._answered(call.reply, call.index, call.id, outcome, action.call_id, call.timeout_ms)
            self._close_if_done(call.reply)

    def _answered(self, reply: _Reply, index: int, id: bytes | None, outcome: Outcome, call_id: bytes, timeout_ms: int) -> None:
        reply.answers[index] = (id, outcome, call_id.hex(), timeout_ms)
        reply.pending -= 1

    def _seal(self, reply: _Reply) -> None:
        """Every item has been looked at: what is not answered yet is open."""
        reply.sealed = True
        self._close_if_done(reply)
        if reply.pending:
            reply.exchange.abandoned = _HangUp(self, reply)
            first = (
                reply.answers[0]
                if reply.is_batch
                else (None, _OK, reply.call_ids[0].hex(), self._open[reply.call_ids[0]].timeout_ms)
            )
            reply.exchange.start_heartbeat(rpc.heartbeat_headers(None if reply.is_batch else first[2], first[3]))

    def _close_if_done(self, reply: _Reply) -> None:
        if reply.pending or not reply.sealed or reply.exchange.gone:
            return
        cors = rpc.cors_headers(reply.exchange, self._limits.origins)
        if reply.is_batch:
            status, headers, body = rpc.batch([answer[:3] for answer in reply.answers])
        else:
            status, headers, body = rpc.single(reply.answers[0][1], reply.answers[0][0], reply.answers[0][2], reply.answers[0][3])
        reply.exchange.answer(status, [*headers, *cors] if cors else headers, body)

    def _log_refusal(self, call_id: bytes, method: str, principal: str, outcome: Outcome) -> None:
        self._metrics.count(method, outcome, 0.0)
        self._log.call(call_id.hex(), method, principal, outcome, 0.0)

    def hung_up(self, reply: _Reply) -> None:
        """The caller is gone: what is queued is cancelled, what has begun runs to its end. Notifications go on."""
        for call_id in reply.call_ids:
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

    def _new_call_id(self) -> bytes:
        return self._head + os.urandom(8)


class _Wishes(msgspec.Struct, frozen=True):
    """What the HTTP headers say about every call in the body: who asks, for how long, under which key."""

    principal: Principal | Outcome | None
    timeout_s: float | None
    key: str | None


class _HangUp:
    """Called once by the listener if the caller goes away before the answer."""

    __slots__ = ("_gateway", "_reply")

    def __init__(self, gateway: Gateway, reply: _Reply) -> None:
        self._gateway = gateway
        self._reply = reply

    def __call__(self) -> None:
        self._gateway.hung_up(self._reply)


_OK = Outcome(reason="ok", executed="unknown")


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(name == pattern or (pattern.endswith("*") and name.startswith(pattern[:-1])) for pattern in patterns)


def _first(errors: Sequence[ParamError]) -> str:
    if len(errors) > 1:
        return f"{len(errors)} things are wrong with the params; `errors` lists them."
    return f"{errors[0].path or 'params'}: {errors[0].message}"
