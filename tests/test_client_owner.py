"""client_owner: a client's calls over the real machines, joined in memory; sockets are in test_client_zmq."""

import asyncio
import math
import time

import msgspec
import pytest

from homing.client_http import ResponseReader
from homing.client_owner import Asked, Gathering, answer_of, read_question
from homing.client_rpc import Answer, Ending, Errand, Question, read
from homing.core.broker import BrokerLimits
from homing.core.machine import Event, Learn
from homing.core.messages import MethodOffer
from homing.edges import rpc
from homing.errors import (
    TABLE,
    Attempt,
    CallError,
    Executed,
    NotExecuted,
    Outcome,
    OutcomeUnknown,
    ParamError,
    Verdict,
    failure,
    retry_of,
)
from tests.brokers import BROKER, Street, Town, ok
from tests.loops import run, until

CHARGE = Question("1", "acme.charge", b'{"amount":1}', service="acme", effect="once")


def asked(question: Question = CHARGE, timeout_s: float | None = 10.0) -> Asked:
    found = read_question(question, timeout_s, time.monotonic())
    assert isinstance(found, Asked)
    return found


class ToCome(asyncio.Future[Answer]):
    """The answer of a call. A second one would be an error of the future's."""

    call_id: bytes


def ask(town: Town, question: Question = CHARGE, timeout_s: float | None = 10.0) -> ToCome:
    answer = ToCome()
    answer.call_id = town.owner.ask(asked(question, timeout_s), answer.set_result)
    return answer


def errand(*questions: Question, timeout: float | None = 10.0) -> Errand:
    return Errand(list(questions), time.monotonic(), alone=len(questions) == 1, timeout=timeout, retries=0, random=lambda: 0.0)


# What is asked


def test_a_question_is_looked_at_as_a_gateway_does() -> None:
    twice = Question("1", "m", b'{"a":1,"a":2,"_meta":{"homing":{"timeout":7,"idempotency_key":"k"}}}')
    found = read_question(twice, None, 100.0)
    assert isinstance(found, Asked)
    assert (found.body, found.key, found.timeout_s, found.asked_at) == (b'{"a":2}', "k", 7.0, 100.0)
    found = read_question(twice, 3.0, 100.0)
    assert isinstance(found, Asked)
    assert found.timeout_s == 3.0


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (Question("1", "m", b"{"), "parse_error"),
        (Question("1", "m", b'{"a":"\xff"}'), "parse_error"),
        (Question("1", "m", b"[" * 70 + b"]" * 70), "too_large"),
        (Question("1", "m", b"[" + b"9" * 5000 + b"]"), "invalid_request"),
        (Question("1", "m", idempotency_key="ü"), "invalid_request"),
        (Question(None, "m", b"7"), "invalid_request"),
        (Question("1", ""), "method_not_found"),
        (Question("1", "m" * 257), "method_not_found"),
    ],
    ids=["half", "utf-8", "deep", "number", "key", "params", "nameless", "long"],
)
def test_what_is_no_request_is_refused_before_it_is_sent(question: Question, reason: str) -> None:
    found = read_question(question, None, 0.0)
    assert isinstance(found, Outcome)
    assert (found.reason, found.executed) == (reason, "no")


def test_a_time_that_the_wire_cannot_say_is_shortened() -> None:
    found = read_question(CHARGE, 1e9, 0.0)
    assert isinstance(found, Asked)
    assert found.timeout_s is not None
    assert found.timeout_s * 1000 < 2**31


def test_what_is_asked_arrives() -> None:
    async def main() -> None:
        town = Town({"acme.charge": ok(b'{"id":1}')}, principal="webshop")
        question = msgspec.structs.replace(CHARGE, idempotency_key="order-17", effect="keyed")
        assert await ask(town, question) == b'{"id":1}'
        start = town.start
        assert (start.method, start.body, start.key, start.principal) == ("acme.charge", b'{"amount":1}', "order-17", "webshop")
        assert start.effect == "keyed"
        assert len(town.owner) == len(town.owner._machine) == len(town.broker) == 0

    run(main())


def test_without_a_key_the_call_id_is_one() -> None:
    async def main() -> None:
        town = Town({"acme.charge": failure("provider_failed", "500")})
        answer = await ask(town)
        assert isinstance(answer, OutcomeUnknown)
        assert town.start.key == answer.call_id == town.start.call_id.hex()
        assert (answer.idempotency_key, answer.retry) == (None, "unsafe")

    run(main())


# The same errors as over HTTP

ATTEMPT = Attempt(provider="acme", started_ms=3, duration_ms=900, reason="provider_failed", executed="unknown", status=500)
OUTCOMES = [
    *(failure(row.reason, row.meaning, executed=executed) for row in TABLE for executed in ("no", "unknown", "yes")),
    failure("overloaded", "Full.", retry_after_ms=1500, limit="broker.queue_length_max"),
    failure("invalid_params", "Wrong.", errors=(ParamError("/amount", "is no integer"),)),
    Outcome(reason="application", code=17, executed="unknown", message="Its own.", detail=b'{"why":1e400}'),
    Outcome(reason="application", code=-5, executed="yes", detail=b"null"),
    Outcome(reason="provider_failed", executed="unknown", status=500, body=b'{"message":"oops"}', attempts=(ATTEMPT, ATTEMPT)),
    Outcome(reason="provider_refused", executed="no", status=422, body=b'"no"', body_truncated=True),
    Outcome(
        reason="deadline_exceeded", executed="unknown", retry="same_key", idempotency_key="k", key_expires_ms=5, timeout_ms=7
    ),
    failure("connection_lost", "\ud800"),
]


@pytest.mark.parametrize("key", [None, "order-17"])
@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: f"{outcome.reason}-{outcome.executed}")
def test_an_outcome_raises_what_it_raises_over_http(outcome: Outcome, key: str | None) -> None:
    outcome = msgspec.structs.replace(outcome, retry=outcome.retry or retry_of(outcome.reason, outcome.executed, "once"))
    question = Question("1", "m", idempotency_key=key)
    status, headers, body = rpc.single(outcome, b'"1"', "c" * 32, 0)
    reader = ResponseReader()
    lines = [b"HTTP/1.1 %d X" % status, *(b"%s: %s" % pair for pair in headers), b"Content-Length: %d" % len(body), b"", b""]
    reader.feed(b"\r\n".join(lines) + body)
    (over_http,) = read([question], Ending(reader=reader), alone=True)
    here = answer_of(outcome, "c" * 32, question)
    assert isinstance(here, CallError)
    assert type(here) is type(over_http)
    assert vars(here) == vars(over_http)
    assert str(here) == str(over_http)


def test_an_empty_result_is_null() -> None:
    assert answer_of(ok(b""), "c" * 32, CHARGE) == b"null"


def test_a_result_that_is_no_utf_8_was_executed() -> None:
    answer = answer_of(ok(b'"\xff"'), "c" * 32, CHARGE)
    assert isinstance(answer, Executed)
    assert (answer.reason, answer.retry, answer.call_id) == ("response_invalid", "unsafe", "c" * 32)
    assert answer_of(ok('"ü"'.encode()), "c" * 32, CHARGE) == '"ü"'.encode()


# Service, effect and timeout of a method


def offer(town: Town, *offers: MethodOffer) -> None:
    town.owner._act(Learn(offers))


def test_a_method_is_what_its_worker_says() -> None:
    async def main() -> None:
        town = Town({"charge": ok(), "acme.charge": ok()})
        offer(town, MethodOffer("charge", "acme", "safe", 3000))
        before = time.monotonic()
        assert await ask(town, Question("1", "charge"), None) == b'"done"'
        assert town.start.effect == "safe"
        assert before < town.start.deadline <= time.monotonic() + 3.0
        assert await ask(town, Question("1", "charge"), 50.0) == b'"done"'
        assert town.provider.started[1].deadline > time.monotonic() + 40.0

    run(main())


@pytest.mark.parametrize(
    ("offered", "said", "expected"),
    [
        ("once", None, "once"),
        ("keyed", None, "keyed"),
        ("once", "safe", "once"),
        ("keyed", "safe", "keyed"),
        ("safe", "once", "once"),
        ("safe", "keyed", "keyed"),
        (None, "safe", "safe"),
        (None, None, "once"),
    ],
)
def test_of_two_effects_the_stricter_counts(offered, said, expected) -> None:
    async def main() -> None:
        town = Town({"acme.charge": ok()})
        if offered is not None:
            offer(town, MethodOffer("acme.charge", "acme", offered))
        await ask(town, Question("1", "acme.charge", effect=said))
        assert town.start.effect == expected

    run(main())


@pytest.mark.parametrize(("method", "service"), [("acme.charge", "acme"), ("acme", "acme"), ("a.b.c", "a"), (".b", ".b")])
def test_without_a_word_the_service_is_what_stands_before_the_dot(method: str, service: str) -> None:
    async def main() -> None:
        town = Town()
        assert town.owner._service_and_effect(Question("1", method), None) == (service, "once")

    run(main())


def test_a_service_that_is_said_counts() -> None:
    async def main() -> None:
        town = Town({"charge": ok()})
        offer(town, MethodOffer("charge", "elsewhere"))
        assert await ask(town, Question("1", "charge", service="acme")) == b'"done"'

    run(main())


def test_a_method_that_is_not_offered_yet_is_waited_for() -> None:
    async def main() -> None:
        town = Town({"charge": ok()})
        answer = ask(town, Question("1", "charge"))
        other = ask(town, Question("1", "unheard.of"))
        assert len(town.owner) == 2
        assert len(town.owner._machine) == 0
        offer(town, MethodOffer("charge", "acme", "safe"))
        assert await answer == b'"done"'
        assert town.start.effect == "safe"
        assert not other.done()
        said = await other  # patience ends, and nobody serves it
        assert isinstance(said, NotExecuted)
        assert said.reason == "no_worker"
        begun = ask(town, Question("1", "acme.other"))  # from now on nobody waits
        assert begun.call_id not in town.owner._open or town.owner._open[begun.call_id].held is None
        assert isinstance(await begun, NotExecuted)

    run(main())


def test_before_a_broker_is_there_half_of_the_time_is_waited() -> None:
    async def main() -> None:
        town = Town({"acme.charge": ok()}, joined=False)
        town.owner.ask(asked(Question("1", "acme.charge"), 0.2), lambda answer: None)
        (call,) = town.owner._open.values()
        assert call.held is not None
        assert 0.05 < call.held.when() - asyncio.get_running_loop().time() <= 0.1
        late = ask(town, Question("1", "acme.charge"), 30.0)
        town.street.join()
        assert await late == b'"done"'  # patience ended long before half of its time
        town.street.part()
        assert town.owner._patient_until == math.inf

    run(main())


def test_two_brokers_are_found_once() -> None:
    async def main() -> None:
        town = Town({"acme.charge": ok()})
        patience = town.owner._impatience
        town.street.attach(b"backup", town.broker, lambda action: None)
        town.street.join(b"backup")
        assert town.owner._impatience is patience
        town.street.part(b"backup")
        assert town.owner._impatience is patience
        town.street.part()
        assert town.owner._impatience is None

    run(main())


# When nothing comes


@pytest.mark.parametrize("known", [True, False])
def test_no_broker_until_the_deadline_is_not_executed(known: bool) -> None:
    async def main() -> None:
        town = Town(joined=False)
        answer = await ask(town, CHARGE if known else Question("1", "acme.charge"), 0.05)
        assert isinstance(answer, NotExecuted)
        assert (answer.reason, answer.code, answer.retry) == ("broker_lost", 5051, "safe")
        assert len(town.owner) == len(town.owner._machine) == 0

    run(main())


def test_why_there_is_no_broker_is_told() -> None:
    async def main() -> None:
        town = Town(joined=False)
        town.owner.trouble = "Nobody there knows this key."
        answer = await ask(town, CHARGE, 0.05)
        assert isinstance(answer, NotExecuted)
        assert answer.message == "No broker was to be had until the deadline. Nobody there knows this key."
        town.street.join()
        assert town.owner.trouble == ""

    run(main())


def test_params_that_fit_no_frame_are_not_sent() -> None:
    async def main() -> None:
        town = Town()
        town.owner._frame_bytes_max = 10
        answer = await ask(town)
        assert isinstance(answer, NotExecuted)
        assert (answer.reason, answer.retry) == ("too_large", "pointless")
        assert isinstance(answer.data, dict)
        assert answer.data["limit"] == "broker.frame_bytes_max"
        assert len(town.owner) == len(town.provider.started) == 0

    run(main())


def test_no_time_left_is_not_executed() -> None:
    async def main() -> None:
        town = Town()
        answer = await ask(town, CHARGE, -1.0)
        assert isinstance(answer, NotExecuted)
        assert answer.reason == "expired"

    run(main())


def test_what_begun_and_did_not_end_is_unknown() -> None:
    async def main() -> None:
        town = Town()
        answer = await ask(town, CHARGE, 0.1)
        assert isinstance(answer, OutcomeUnknown)
        assert (answer.reason, answer.retry) == ("deadline_exceeded", "unsafe")

    run(main())


def test_a_broker_that_was_away_costs_nothing() -> None:
    async def main() -> None:
        town = Town({"acme.charge": ok()}, joined=False)
        answer = ask(town)
        await asyncio.sleep(0)
        assert len(town.owner._machine) == 1
        town.street.join()
        assert await answer == b'"done"'

    run(main())


@pytest.mark.parametrize("method", ["acme.charge", "acme.unoffered"])
def test_an_abandoned_call_that_waits_is_gone(method: str) -> None:
    async def main() -> None:
        town = Town(served=False, limits=BrokerLimits())
        answer = ask(town, Question("1", method, service="acme", effect="once" if method == "acme.charge" else None))
        town.owner.abandon(answer.call_id)
        town.owner.abandon(answer.call_id)
        assert len(town.owner) == len(town.owner._machine) == len(town.broker) == 0
        await asyncio.sleep(0)
        assert not answer.done()

    run(main())


def test_an_abandoned_call_that_has_begun_runs_to_its_end() -> None:
    async def main() -> None:
        town = Town()
        answer = ask(town)
        await until(lambda: town.provider.started)
        town.owner.abandon(answer.call_id)
        assert len(town.owner) == 1
        town.provider.answer(town.start, ok())
        await until(lambda: not len(town.owner))
        assert not answer.done()
        assert town.provider.stopped == []

    run(main())


class Broken(Street):
    """An engine with a fault."""

    def feed(self, address: bytes, event: Event, now: float) -> None:
        raise RuntimeError("broken")


def test_a_fault_is_an_answer() -> None:
    async def main() -> None:
        town = Town()
        reported: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        town.owner._driver._station = Broken()
        answer = await ask(town)
        assert isinstance(answer, OutcomeUnknown)
        assert (answer.reason, len(town.owner), len(reported)) == ("internal_error", 0, 1)

    run(main())


@pytest.mark.parametrize("executed", ["no", "unknown", "yes"])
def test_an_outcome_that_cannot_be_told_is_an_answer_all_the_same(executed: Verdict) -> None:
    """Else whoever waits for it would wait for ever."""

    async def main() -> None:
        junk = Outcome(reason="application", code=1, executed=executed, detail=b"}{")
        town = Town({"acme.charge": junk})
        reported: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
        answer = await ask(town)
        assert isinstance(answer, CallError)
        assert (answer.reason, answer.executed, len(town.owner), len(reported)) == ("internal_error", executed, 0, 1)

    run(main())


# Closing


def test_closing_settles_everything() -> None:
    async def main() -> None:
        town = Town({"acme.charge": ok()}, limits=BrokerLimits())
        town.provider.answers.clear()
        begun = ask(town)
        queued = ask(town, Question("1", "nobody.serves", service="nobody", effect="safe"))
        held = ask(town, Question("1", "acme.unoffered"))
        assert len(town.owner) == 3
        town.owner.close()
        assert town.street.closed == 1
        for answer, expected in ((begun, OutcomeUnknown), (queued, NotExecuted), (held, NotExecuted)):
            error = answer.result()
            assert type(error) is expected
            assert error.reason == "cancelled"
            assert "The client was closed" in error.message
        assert len(town.owner) == len(town.owner._machine) == 0
        assert town.broker.queued("nobody") == 0
        town.owner.abandon(begun.call_id)

    run(main())


def test_a_closed_owner_waits_for_nothing() -> None:
    async def main() -> None:
        town = Town()
        offer(town)
        town.owner.close()
        assert town.owner._impatience is None
        await asyncio.sleep(0)  # what was learnt last changes nothing

    run(main())


# Several at once


def test_a_gathering_has_each_answer_in_its_place() -> None:
    async def main() -> None:
        town = Town({"acme.charge": ok(), "acme.refund": failure("provider_refused", "No.")})
        questions = [
            CHARGE,
            Question("2", "acme.charge", b"{"),
            Question("3", "acme.refund", service="acme", effect="safe"),
        ]
        done = asyncio.Event()
        gathering = Gathering(errand(*questions), time.monotonic(), done.set)
        gathering.begin(town.owner)
        await done.wait()
        first, second, third = gathering.answers
        assert first == b'"done"'
        assert isinstance(second, NotExecuted)
        assert second.reason == "parse_error"
        assert len(second.call_id or "") == 32
        assert isinstance(third, NotExecuted)
        assert third.reason == "provider_refused"
        gathering.abandon()

    run(main())


def test_a_gathering_that_never_began_is_abandoned_in_peace() -> None:
    gathering = Gathering(errand(CHARGE, timeout=None), time.monotonic(), lambda: None)
    gathering.abandon()
    (one,) = gathering._asked
    assert isinstance(one, Asked)
    assert one.timeout_s is None


def test_ten_thousand_calls_leave_nothing_behind() -> None:
    async def main() -> None:
        town = Town({"acme.charge": ok(), "acme.fail": failure("provider_refused", "No.")})
        fail = Question("2", "acme.fail", service="acme", effect="safe")
        for _ in range(100):
            answers = [ask(town, CHARGE if number % 3 else fail) for number in range(100)]
            for number, answer in enumerate(answers):
                if number % 10 == 0:
                    town.owner.abandon(answer.call_id)
            await asyncio.gather(*(answer for number, answer in enumerate(answers) if number % 10))
        await until(lambda: not len(town.owner))
        assert len(town.owner._machine) == len(town.broker) == len(town.worker) == 0
        assert len(town.owner._machine._deadlines) == 0

    run(main())


def test_the_broker_is_told_of_what_nobody_waits_for() -> None:
    async def main() -> None:
        town = Town(served=False, limits=BrokerLimits())
        answer = ask(town)
        assert town.broker.queued("acme") == 1
        town.owner.abandon(answer.call_id)
        assert town.broker.queued("acme") == 0
        assert BROKER in town.owner._brokers

    run(main())
