"""Why a broker does not take a call. When it says so stands in `test_broker.py`."""

from collections.abc import Callable

import msgspec
import pytest

from homing.core import codec
from homing.core.messages import Final, Reject, Settled
from homing.core.permits import ANYTHING, NOTHING, Permit
from homing.core.queues import Copy, Offering, Service
from homing.core.refusals import (
    SETTLED_LENGTH_MAX,
    SOON_MS,
    TEXT_LENGTH_MAX,
    BrokerLimits,
    brief,
    fitted,
    forbidden,
    no_worker,
    parts,
    queue_full,
    refusal,
)
from homing.errors import Attempt, Outcome, failure
from tests.core.people import ONE, W1, A, call_id, request

LIMITS = BrokerLimits(queue_length_max=2, held_bytes_max=100, no_worker_after_s=5.0)


def copy(remaining_ms: int = 10_000) -> Copy:
    return Copy(request(remaining_ms=remaining_ms), remaining_ms / 1000)


def service(*, queued: int = 0, mean_s: float = 0.0) -> Service:
    """One that a worker with one slot offers."""
    made = Service("acme", 0.0)
    worker = Offering(ONE, W1)
    worker.services = {"acme": 1}
    made.workers[ONE] = worker
    made.nobody_since = None
    made.mean_s = mean_s
    for _ in range(queued):
        made.push(copy())
    return made


def test_what_may_wait_is_not_refused() -> None:
    assert refusal(service(queued=1), copy(), LIMITS, 0, 0.0) is None


@pytest.mark.parametrize(("held_bytes", "refused"), [(88, False), (89, True)])
def test_bytes_are_counted_with_those_of_the_call(held_bytes: int, refused: bool) -> None:
    said = refusal(service(), copy(), LIMITS, held_bytes, 0.0)
    assert (said is not None) == refused
    assert said is None or (said.limit, said.retry_after_ms) == ("broker.held_bytes_max", SOON_MS)


@pytest.mark.parametrize(("now", "refused"), [(4.9, False), (5.0, True)])
def test_nobody_may_be_there_for_a_while(now: float, refused: bool) -> None:
    said = refusal(Service("acme", 0.0), copy(), LIMITS, 0, now)
    assert said == (no_worker(A, Service("acme", 0.0), LIMITS) if refused else None)


def test_a_full_queue_says_when_to_come_again() -> None:
    full = service(queued=2, mean_s=3.0)
    assert refusal(full, copy(), LIMITS, 0, 0.0) == queue_full(A, full, 6000)


@pytest.mark.parametrize(("remaining_ms", "refused"), [(3030, True), (3031, False)])
def test_a_call_that_would_wait_beyond_its_deadline_is_refused(remaining_ms: int, refused: bool) -> None:
    said = refusal(service(queued=1, mean_s=3.0), copy(remaining_ms), LIMITS, 0, 0.0)
    assert (said is not None) == refused
    assert said is None or (said.reason, said.limit, said.retry_after_ms) == ("overloaded", "deadline", 3000)


@pytest.mark.parametrize(
    ("permit", "principal", "allowed"),
    [
        (ANYTHING, "webshop", True),
        (NOTHING, "webshop", False),
        (Permit(call=("bank",)), "webshop", False),
        (Permit(call=("acme",), principal="webshop"), "webshop", True),
        (Permit(call=("acme",), principal="webshop"), "bank", False),
        (Permit(call=("acme",), principal="webshop"), "", False),
    ],
    ids=["anything", "nothing", "another service", "its principal", "another principal", "no principal"],
)
def test_a_permit_says_which_services_and_in_whose_name(permit: Permit, principal: str, allowed: bool) -> None:
    said = forbidden(request(principal=principal), permit)
    assert (said is None) == allowed
    assert said is None or (said.kind, said.reason) == ("refused", "forbidden")


def sealed(final: Final) -> Final:
    (carried,) = codec.decode(codec.encode([final]), sealed=True)
    assert isinstance(carried, Final)
    assert type(carried.outcome) is codec.Sealed
    return carried


@pytest.mark.parametrize("carried", [lambda final: final, sealed], ids=["read", "carried"])
@pytest.mark.parametrize(("length", "fits"), [(500, True), (501, False)])
def test_an_outcome_is_carried_to_whom_reads_it(carried: Callable[[Final], Final], length: int, fits: bool) -> None:
    """What it proves is told all the same."""
    attempt = Attempt(provider="acme", started_ms=0, duration_ms=5, reason="ok", executed="yes")
    final = carried(Final(A, ONE, 7, Outcome(reason="ok", executed="yes", result=b"1" * length, attempts=(attempt,))))
    said = fitted(final, 500)
    if fits:
        assert said is final
        return
    assert (said.call_id, said.life, said.claim) == (A, ONE, 7)
    outcome = said.outcome
    assert (outcome.reason, outcome.executed, outcome.result) == ("response_too_large", "yes", b"")
    assert outcome.attempts == (attempt,)
    assert codec.decode(codec.encode([said])) == [said]


def test_what_stands_beside_a_result_counts() -> None:
    final = Final(A, ONE, 7, failure("provider_refused", "n" * 600))
    for each in (final, sealed(final)):
        assert (fitted(each, 500).outcome.reason, fitted(each, 500).outcome.executed) == ("response_too_large", "no")


def test_of_junk_too_large_nothing_is_known() -> None:
    header = msgspec.msgpack.encode([9, A, ONE, 7, {"reason": "no such thing" * 100}])
    (junk,) = codec.decode((codec.TAG, header, b""), sealed=True)
    assert isinstance(junk, Final)
    outcome = fitted(junk, 500).outcome
    assert (outcome.reason, outcome.executed) == ("response_too_large", "unknown")


def test_of_a_refusal_as_much_is_passed_on_as_anybody_reads() -> None:
    said = Reject(A, "refused", "circuit_open", "m" * TEXT_LENGTH_MAX, 7, None)
    assert brief(said) is said
    long = Reject(A, "refused", "circuit_open", "\U0001f514" * 65_536, 7, "l" * 65_536)
    assert brief(long) == Reject(A, "refused", "circuit_open", "\U0001f514" * TEXT_LENGTH_MAX, 7, "l" * TEXT_LENGTH_MAX)


def test_a_long_list_of_what_is_settled_is_passed_on_in_parts() -> None:
    """A worker that reads small frames would lose its connection by it."""
    call_ids = tuple(map(call_id, range(2 * SETTLED_LENGTH_MAX + 1)))
    short = Settled(ONE, call_ids[:SETTLED_LENGTH_MAX])
    assert parts(short) == [short]
    told = parts(Settled(ONE, call_ids))
    assert [len(one.call_ids) for one in told] == [SETTLED_LENGTH_MAX, SETTLED_LENGTH_MAX, 1]
    assert tuple(each for one in told for each in one.call_ids) == call_ids
