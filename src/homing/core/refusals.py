"""Why a broker does not take a call, or carry an outcome: the promise is to say so at once, not at the deadline."""

import msgspec

from homing.core import codec
from homing.core.holding import frame_bytes, too_large
from homing.core.machine import margin_s
from homing.core.messages import Final, Reject, Request, Settled
from homing.core.permits import Permit
from homing.core.queues import Copy, Service, weight
from homing.errors import Outcome, failure

TEXT_LENGTH_MAX = 1000  # of what a worker says of its refusal: whoever is told must be able to read it
SETTLED_LENGTH_MAX = 1000  # in one message, for the same reason
SOON_MS = 100  # when to come again to a broker that cannot say


class BrokerLimits(msgspec.Struct, frozen=True):
    """Everything that can grow: calls queued per service, bytes of params held in all, and how long nobody may offer a service."""

    queue_length_max: int = 10_000
    held_bytes_max: int = 512 * 1024 * 1024
    no_worker_after_s: float = 5.0


def refusal(service: Service, copy: Copy, limits: BrokerLimits, held_bytes: int, now: float) -> Reject | None:
    """Why a call cannot be held, or finds no free slot and cannot be queued. None: it may wait."""
    call_id = copy.request.call_id
    if held_bytes + weight(copy.request) > limits.held_bytes_max:
        message = "The broker holds as many bytes of params as it may."
        return Reject(call_id, "refused", "overloaded", message, SOON_MS, "broker.held_bytes_max")
    if service.nobody_since is not None and now >= service.nobody_since + limits.no_worker_after_s:
        return no_worker(call_id, service, limits)
    if service.workers and len(service.blind_to(copy)) == len(service.workers):
        return unreadable(call_id, service)
    slots = service.slots()
    wait_s = service.mean_s * service.length / slots if slots else 0.0
    soon_ms = max(SOON_MS, int(wait_s * 1000))
    if service.length >= limits.queue_length_max:
        return queue_full(call_id, service, soon_ms)
    remaining_s = copy.request.remaining_ms / 1000
    if wait_s and wait_s >= remaining_s - margin_s(remaining_s):
        message = f"Service {service.name!r} is busy: this call would wait {wait_s:.1f} s and has {remaining_s:.1f} s."
        return Reject(call_id, "refused", "overloaded", message, soon_ms, "deadline")
    return None


def queue_full(call_id: bytes, service: Service, soon_ms: int = SOON_MS) -> Reject:
    """One more would be too many."""
    message = f"The queue of service {service.name!r} is full."
    return Reject(call_id, "refused", "overloaded", message, soon_ms, "broker.queue_length_max")


def unreadable(call_id: bytes, service: Service) -> Reject:
    """Whoever is there could not be told of it."""
    message = f"No worker of service {service.name!r} reads a frame as large as what is said with this call."
    return Reject(call_id, "refused", "too_large", message, None, "broker.frame_bytes_max")


def no_worker(call_id: bytes, service: Service, limits: BrokerLimits) -> Reject:
    """Nobody is there, and nobody is expected."""
    waited_s = limits.no_worker_after_s
    message = f"Nobody has offered service {service.name!r} for {waited_s:g} s."
    return Reject(call_id, "refused", "no_worker", message, int(waited_s * 1000) or 1000, "broker.no_worker_after")


def forbidden(request: Request, permit: Permit) -> Reject | None:
    """Why whoever has this permit may not ask for this call."""
    if not permit.calls(request.service):
        return _forbidden(request, f"This key may not call service {request.service!r}.")
    if permit.principal and request.principal != permit.principal:
        return _forbidden(request, f"This key may call in the name of {permit.principal!r} only, not of {request.principal!r}.")
    return None


def _forbidden(request: Request, message: str) -> Reject:
    return Reject(request.call_id, "refused", "forbidden", message)


def brief(reject: Reject) -> Reject:
    """What is passed on of a refusal."""
    limit = reject.limit or ""
    if len(reject.message) <= TEXT_LENGTH_MAX and len(limit) <= TEXT_LENGTH_MAX:
        return reject
    message = reject.message[:TEXT_LENGTH_MAX]
    return msgspec.structs.replace(reject, message=message, limit=limit[:TEXT_LENGTH_MAX] or None)


def parts(settled: Settled) -> list[Settled]:
    """As it is, or if it is long in several."""
    call_ids = settled.call_ids
    if len(call_ids) <= SETTLED_LENGTH_MAX:
        return [settled]
    starts = range(0, len(call_ids), SETTLED_LENGTH_MAX)
    return [Settled(settled.life, call_ids[start : start + SETTLED_LENGTH_MAX]) for start in starts]


def fitted(final: Final, bytes_max: int) -> Final:
    """What a gateway that reads no larger frames is told: it would cut its connection, and hear the same again on the next one."""
    outcome = final.outcome
    if type(outcome) is codec.Sealed:
        size = max(len(outcome.result), len(outcome.packed))
    else:
        size = frame_bytes(outcome)
    return final if size <= bytes_max else msgspec.structs.replace(final, outcome=too_large(_opened(final), bytes_max))


def _opened(final: Final) -> Outcome:
    """What it says; if that is junk, nothing is known."""
    if type(final.outcome) is not codec.Sealed:
        return final.outcome
    try:
        (message,) = codec.decode((codec.TAG, *codec.pair(final)))
    except codec.WireError:
        return failure("response_too_large", "")
    assert isinstance(message, Final), "it was one"
    return message.outcome
