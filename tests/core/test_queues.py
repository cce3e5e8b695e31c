"""A broker's tables: a copy, an offer with its credit, and a queue with a line for each principal."""

import time

from homing.core.queues import LENGTH_BESIDE, Copy, Offering, Service, weight
from tests.core.people import ONE, TWO, W1, A, B, C, call_id, request


def copy(call: bytes = A, principal: str = "webshop", **fields) -> Copy:
    return Copy(request(call, principal=principal, **fields), 10.0)


def order_of(service: Service) -> list[bytes]:
    """The calls as they would be served, one of each principal in turn."""
    served = []
    while service.length:
        head = next(service.turns())
        service.pop(head)
        served.append(head.request.call_id)
    assert not service.lines
    return served


def test_a_call_weighs_its_params_and_what_is_long_beside_them() -> None:
    assert weight(request(body=b"1234")) == 4
    assert weight(request(body=b"1234", key="k" * LENGTH_BESIDE, trace="tt")) == 6


def test_the_mean_begins_with_what_was_measured_first_and_moves_slowly_from_there() -> None:
    service = Service("acme", 0.0)
    service.measured(4.0)
    assert service.mean_s == 4.0
    service.measured(0.0)
    assert service.mean_s == 3.6


def test_a_worker_concerns_whoever_may_call_what_it_offers_or_has_been_given() -> None:
    worker = Offering(ONE, W1)
    assert worker.concerns(set().__contains__)  # nobody knows yet what it will offer
    worker.offered = frozenset({"acme"})
    assert worker.concerns({"acme", "mail"}.__contains__)
    assert not worker.concerns({"mail"}.__contains__)
    worker.held["mail"] = set()
    assert worker.concerns({"mail"}.__contains__)


def test_one_principals_calls_are_served_in_order() -> None:
    service = Service("acme", 0.0)
    for call in (A, B, C):
        service.push(copy(call))
    assert service.length == 3
    assert order_of(service) == [A, B, C]


def test_what_has_waited_before_goes_to_the_head_of_its_line() -> None:
    service = Service("acme", 0.0)
    service.push(copy(A))
    service.push(copy(B), first=True)
    assert order_of(service) == [B, A]


def test_principals_take_turns() -> None:
    service = Service("acme", 0.0)
    busy = [call_id(number) for number in range(10, 15)]
    for call in busy:
        service.push(copy(call, "busy"))
    service.push(copy(A, "quiet"))
    service.push(copy(B, "quiet"))
    assert order_of(service) == [busy[0], A, busy[1], B, *busy[2:]]


def test_a_copy_leaves_its_line_from_anywhere() -> None:
    service = Service("acme", 0.0)
    copies = [copy(A), copy(B), copy(C)]
    for one in copies:
        service.push(one)
    service.remove(copies[1])
    assert service.length == 2
    assert order_of(service) == [A, C]


def test_to_leave_a_long_line_takes_no_longer_than_to_leave_a_short_one() -> None:
    """Else a gateway that dies, or callers that hang up, hold up a broker with a long queue for everybody."""

    def leave(length: int) -> float:
        service = Service("acme", 0.0)
        copies = [copy(call_id(number)) for number in range(length)]
        for one in copies:
            service.push(one)
        began = time.process_time()
        for one in reversed(copies[-500:]):
            service.remove(one)
        return time.process_time() - began

    assert leave(50_000) < 20 * min(leave(600) for _ in range(3)) + 0.1


def test_an_empty_line_is_no_line() -> None:
    service = Service("acme", 0.0)
    only = copy(A)
    service.push(only)
    service.remove(only)
    assert not service.lines
    assert not service.length
    assert list(service.turns()) == []


def test_a_copy_that_somebody_refused_does_not_stand_before_those_that_nobody_refused() -> None:
    service = Service("acme", 0.0)
    stuck, waiting, behind = copy(A), copy(B), copy(C)
    stuck.refused_by = frozenset({ONE})
    for one in (stuck, waiting, behind):
        service.push(one)
    assert list(service.turns()) == [stuck, waiting]
    service.pop(waiting)
    assert list(service.turns()) == [stuck, behind]
    assert service.length == 2


def test_copies_that_the_same_workers_refused_wait_in_one_line() -> None:
    service = Service("acme", 0.0)
    for call, lives in ((A, {ONE}), (B, {TWO}), (C, {ONE})):
        one = copy(call)
        one.refused_by = frozenset(lives)
        service.push(one)
    assert [head.request.call_id for head in service.turns()] == [A, B]


def test_credit_is_what_was_offered_less_what_was_given() -> None:
    worker = Offering(ONE, W1)
    worker.services = {"acme": 2, "bank": 1}
    assert (worker.credit("acme"), worker.credit("bank"), worker.credit("other")) == (2, 1, 0)
    worker.held["acme"] = {A, B}
    assert (worker.credit("acme"), worker.credit("bank")) == (0, 1)


def test_strays_count_against_every_credit() -> None:
    worker = Offering(ONE, W1)
    worker.services = {"acme": 2, "bank": 1}
    worker.strays = {A}
    assert (worker.credit("acme"), worker.credit("bank")) == (1, 0)


def test_a_worker_whose_connection_is_gone_has_no_credit() -> None:
    worker = Offering(ONE, W1)
    worker.services = {"acme": 2}
    worker.gone = True
    assert worker.credit("acme") == 0


def test_a_service_has_credit_while_one_worker_has() -> None:
    service = Service("acme", 0.0)
    assert not service.has_credit()
    worker = Offering(ONE, W1)
    worker.services = {"acme": 1}
    service.workers[ONE] = worker
    assert service.has_credit()
    worker.held["acme"] = {A}
    assert not service.has_credit()


def test_slots_are_what_all_workers_offer() -> None:
    service = Service("acme", 0.0)
    assert service.slots() == 0
    for life, credit in ((ONE, 2), (TWO, 3)):
        worker = Offering(life, W1)
        worker.services = {"acme": credit}
        service.workers[life] = worker
    assert service.slots() == 5


def worker(life: bytes, credit: int, frame_bytes_max: int) -> Offering:
    made = Offering(life, W1)
    made.services = {"acme": credit}
    made.frame_bytes_max = frame_bytes_max
    return made


def test_who_has_the_turn_goes_with_its_worker() -> None:
    service = Service("acme", 0.0)
    service.workers = {ONE: worker(ONE, 1, 2), TWO: worker(TWO, 0, 100)}
    large, small, third = copy(A, body=b"123"), copy(B, body=b"12"), copy(C, body=b"123")
    for one in (large, small, third):
        service.push(one)
    assert service.next_turn() == (small, service.workers[ONE])
    assert service.next_turn() is None
    assert service.length == 2
    assert large.refused_by == third.refused_by == {ONE}
    service.workers[TWO].services = {"acme": 1}
    assert [service.next_turn(), service.next_turn()] == [(large, service.workers[TWO]), (third, service.workers[TWO])]
    assert service.next_turn() is None
    assert not service.lines


def test_what_nobody_reads_goes_with_no_worker() -> None:
    service = Service("acme", 0.0)
    large = copy(A, body=b"123")
    service.push(large)
    assert service.next_turn() is None, "nobody is there"
    service.workers = {ONE: worker(ONE, 1, 2), TWO: worker(TWO, 0, 2)}
    assert service.next_turn() == (large, None)
    assert service.blind_to(large) == {ONE, TWO}
