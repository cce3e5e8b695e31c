"""Messages become frames and come back the same; whatever else comes in as frames is told apart, and raises nothing else."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homing.core.codec import KINDS, TAG, Sealed, WireError, decode, encode, frame_bytes, pair, salvage
from homing.core.messages import (
    Cancel,
    Claim,
    Deny,
    Disconnect,
    Final,
    Grant,
    Heartbeat,
    Hello,
    Lost,
    LostSeen,
    Message,
    MethodOffer,
    Ready,
    Reject,
    Release,
    Request,
    Settled,
    Workers,
)
from homing.errors import ROWS, Attempt, Outcome, ParamError
from tests.core.people import OK, ONE, A, B, request
from tests.engines.conformance import FROM_BROKER, TO_BROKER

# every message there can be

ids = st.binary(min_size=16, max_size=16)
lives_or_none = st.just(b"") | ids
names = st.text(min_size=1, max_size=20) | st.just("n" * 256)
texts = st.text(max_size=30)
counts = st.integers(0, 2**63 - 1)
milliseconds = st.integers(0, 2**31)
whole = st.integers(-(2**63), 2**64 - 1)
bodies = st.binary(max_size=50)
json_texts = st.sampled_from([b"", b"null", b'{"a":[1,"\xc3\xa9"]}', b"[" * 512 + b"]" * 512])
effects = st.sampled_from(["once", "keyed", "safe"])
verdicts = st.sampled_from(["no", "unknown", "yes"])


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def tuples(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=4).map(tuple)


attempts = st.builds(
    Attempt,
    provider=texts,
    started_ms=whole,
    duration_ms=whole,
    reason=texts,
    executed=verdicts,
    status=maybe(whole),
    provider_request_id=maybe(texts),
)
outcomes = st.builds(
    Outcome,
    reason=st.sampled_from(["ok", *ROWS]),
    executed=verdicts,
    result=json_texts,
    message=texts,
    code=maybe(whole),
    retry_after_ms=maybe(st.integers(0, 2**64 - 1)),
    limit=maybe(texts),
    errors=tuples(st.builds(ParamError, texts, texts)),
    status=maybe(whole),
    body=maybe(json_texts),
    body_truncated=st.booleans(),
    attempts=tuples(attempts),
    again=st.booleans(),
    settles_earlier=st.booleans(),
    detail=maybe(json_texts),
    retry=maybe(st.sampled_from(["safe", "same_key", "unsafe", "pointless"])),
    timeout_ms=maybe(whole),
    idempotency_key=maybe(texts),
    key_expires_ms=maybe(whole),
) | st.builds(Outcome, reason=st.just("application"), executed=verdicts, code=whole)
offers = tuples(st.builds(MethodOffer, names, names, effects, milliseconds, texts, bodies, tuples(texts)))
claims: dict[type, st.SearchStrategy[Any]] = {
    kind: st.builds(kind, ids, ids, counts) for kind in (Claim, Deny, Release, Lost, LostSeen)
}
BY_KIND: dict[type, st.SearchStrategy[Any]] = {
    **claims,
    Hello: st.builds(Hello, ids, lives_or_none, counts),
    Request: st.builds(Request, ids, names, names, milliseconds, effects, texts, texts, counts, verdicts, texts, bodies),
    Cancel: st.builds(Cancel, ids),
    Reject: st.builds(Reject, ids, st.just("refused"), st.sampled_from(list(ROWS)), texts, maybe(counts), maybe(texts))
    | st.builds(Reject, ids, st.sampled_from(["again", "drop"]), texts, texts, maybe(counts), maybe(texts)),
    Grant: st.builds(Grant, ids, ids, counts, milliseconds),
    Final: st.builds(Final, ids, ids, counts, outcomes),
    Settled: st.builds(Settled, ids, tuples(ids)),
    Ready: st.builds(Ready, ids, st.dictionaries(names, milliseconds, max_size=4), milliseconds, offers, lives_or_none, counts),
    Heartbeat: st.builds(
        Heartbeat,
        life=ids,
        peer_life=lives_or_none,
        sent=counts,
        received=counts,
        gap=st.booleans(),
        in_flight=maybe(tuples(ids)),
        lag_ms=milliseconds,
        frame_bytes_max=counts,
    ),
    Disconnect: st.builds(Disconnect),
    Workers: st.builds(Workers, tuples(ids), offers),
}
messages: st.SearchStrategy[Message] = st.one_of(*BY_KIND.values())


def packed(*members: object) -> bytes:
    """A header made by hand."""
    return msgspec.msgpack.encode(members)


def refused(*frames: bytes, sealed: bool = False) -> WireError:
    with pytest.raises(WireError) as caught:
        decode(frames, sealed=sealed)
    return caught.value


# there and back


def test_every_kind_of_message_is_made_here() -> None:
    assert set(BY_KIND) == set(Message.__args__)


@pytest.mark.parametrize("kind", BY_KIND, ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_a_message_comes_back_the_same(kind: type, data: st.DataObject) -> None:
    message = data.draw(BY_KIND[kind])
    assert decode(encode([message])) == [message]


@given(st.lists(messages, max_size=6))
def test_many_go_as_one_and_keep_their_order(said: list[Message]) -> None:
    frames = encode(said)
    assert frames[0] == TAG
    assert len(frames) == 1 + 2 * len(said)
    assert decode(frames) == said


@pytest.mark.parametrize("message", TO_BROKER + FROM_BROKER, ids=lambda message: type(message).__name__)
def test_what_every_engine_must_carry_can_be_carried(message: Message) -> None:
    assert decode(encode([message])) == [message]
    assert decode([TAG, *pair(message)]) == [message]


def test_bodies_are_frames_of_their_own_and_not_copied() -> None:
    body = bytes(range(256)) * 1000
    for message in (request(A, body=body), Final(A, ONE, 1, Outcome(reason="ok", executed="yes", result=body))):
        header, frame = pair(message)
        assert frame is body
        assert len(header) < 200
        assert frame_bytes(message) == len(body)
    assert frame_bytes(Cancel(A)) == len(pair(Cancel(A))[0])


def test_a_message_is_not_changed_by_being_encoded() -> None:
    for message in TO_BROKER + FROM_BROKER:
        before = msgspec.msgpack.encode(message)
        encode([message])
        assert msgspec.msgpack.encode(message) == before


# sealed


@given(st.lists(messages, max_size=4))
def test_what_is_carried_sealed_leaves_as_it_came(said: list[Message]) -> None:
    frames = encode(said)
    carried = decode(frames, sealed=True)
    assert encode(carried) == frames
    assert [type(message) for message in carried] == [type(message) for message in said]
    assert [message for message in carried if not isinstance(message, Final)] == [
        message for message in said if not isinstance(message, Final)
    ]
    for message, original in zip(carried, said, strict=True):
        if isinstance(message, Final) and isinstance(original, Final):
            assert isinstance(message.outcome, Sealed)
            assert message.outcome.result == original.outcome.result
            assert message.outcome.held_bytes >= original.outcome.held_bytes
            assert (message.call_id, message.life, message.claim) == (original.call_id, original.life, original.claim)
            assert frame_bytes(message) == frame_bytes(original)


def test_an_outcome_of_a_newer_peer_passes_a_sealed_broker_whole() -> None:
    header = packed(9, A, ONE, 3, {"executed": "yes", "colour": "blue", "reason": "ok"})
    carried = decode([TAG, header, b"[]"], sealed=True)
    assert encode(carried) == [TAG, header, b"[]"]
    assert decode([TAG, header, b"[]"]) == [Final(A, ONE, 3, Outcome(reason="ok", executed="yes", result=b"[]"))]


# what msgpack cannot say


def test_a_lone_surrogate_or_an_integer_too_large_costs_itself_and_not_the_outcome() -> None:
    outcome = Outcome(
        reason="application",
        executed="unknown",
        result=b"{}",
        message="half of \ud83d",
        code=10**30,
        retry_after_ms=10**30,
        errors=(ParamError("/\udc00", "odd"),),
        body=b'"\xc3\xa9"',
        body_truncated=True,
    )
    (final,) = decode(encode([Final(A, ONE, 3, outcome)]))
    assert isinstance(final, Final)
    assert final.outcome == Outcome(
        reason="application",
        executed="unknown",
        result=b"{}",
        message="half of ?",
        code=2**63 - 1,
        retry_after_ms=2**63 - 1,
        errors=(ParamError("/?", "odd"),),
        body=b'"\xc3\xa9"',
        body_truncated=True,
    )
    assert outcome.message == "half of \ud83d"
    assert outcome.result == b"{}"


def test_other_messages_are_made_fit_too() -> None:
    assert decode(encode([request(A, key="\ud800")])) == [request(A, key="?")]
    assert decode(encode([Reject(A, "drop", "", "\ud800")])) == [Reject(A, "drop", "", "?")]
    assert decode(encode([Ready(ONE, {"\ud800": 3}, 1000)])) == [Ready(ONE, {"?": 3}, 1000)]


# versions


@pytest.mark.parametrize("frames", [(b"HOM2",), (b"",), (b"hom1",), (b"HOM1x", b"", b""), (b"", b"MDPC02", b"\x02", b"echo")])
def test_another_version_is_named(frames: tuple[bytes, ...]) -> None:
    assert refused(*frames).kind == "version"


@pytest.mark.parametrize("frames", [(), (TAG, b""), (TAG, b"", b"", b"")])
def test_frames_come_in_pairs_behind_the_tag(frames: tuple[bytes, ...]) -> None:
    assert refused(*frames).kind == "frames"


def test_the_tag_alone_says_nothing() -> None:
    assert decode([TAG]) == []


NEWER: list[tuple[Message, object]] = [
    (message, each) for message in (request(A), Claim(A, ONE, 3), Disconnect()) for each in (b"x", None, {"a": [1, 2.5]}, "x")
]


@pytest.mark.parametrize(("message", "more"), NEWER, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize("sealed", [False, True])
def test_a_newer_peer_may_say_more_behind_what_is_known(message: Message, more: object, sealed: bool) -> None:
    header, body = pair(message)
    members = msgspec.msgpack.decode(header)
    assert decode([TAG, packed(*members, more, more), body], sealed=sealed) == [message]


def test_an_older_peer_may_say_less() -> None:
    assert decode([TAG, packed(1, ONE), b""]) == [Hello(ONE)]
    assert decode([TAG, packed(13, ONE, {"acme": 3}, 1000), b""]) == [Ready(ONE, {"acme": 3}, 1000)]
    assert decode([TAG, packed(13, ONE, {}, 1000, [["reports.send", "reports"]]), b""]) == [
        Ready(ONE, {}, 1000, (MethodOffer("reports.send", "reports"),))
    ]
    assert decode([TAG, packed(14, ONE, b"", 1, 2), b""]) == [Heartbeat(life=ONE, peer_life=b"", sent=1, received=2)]
    assert decode([TAG, packed(4, A, "again"), b""]) == [Reject(A, "again")]
    assert decode([TAG, packed(16, []), b""]) == [Workers(())]


# junk


@pytest.mark.parametrize("number", [0, 17, 99, -1, 2**63, True, None, "5", 5.0, b"\x05", [5]], ids=repr)
def test_an_unknown_type_is_named(number: object) -> None:
    assert refused(TAG, packed(number, A, ONE, 3), b"").kind == "type"


DEEP = b"\x91" * 100_000
HEADERS = {
    "empty": b"",
    "no array": packed()[:0] + b"\x05",
    "a map": b"\x81\x05\x05",
    "an empty array": b"\x90",
    "cut": pair(Claim(A, ONE, 3))[0][:-1],
    "trailing": pair(Claim(A, ONE, 3))[0] + b"\x00",
    "twice": pair(Claim(A, ONE, 3))[0] * 2,
    "a reserved byte": b"\xc1",
    "a huge array": b"\xdd\xff\xff\xff\xff\x05",
    "a huge string": b"\x92\x05\xdb\xff\xff\xff\xff",
    "a huge id": b"\x92\x05\xc6\xff\xff\xff\xffx",
    "a huge list of ids": b"\x93\x0a\xc4\x10" + ONE + b"\xdd\xff\xff\xff\xff",
    "huge services": b"\x94\x0d\xc4\x10" + ONE + b"\xdf\xff\xff\xff\xff",
    "a deep member": pair(Disconnect())[0].replace(b"\x91", b"\x92") + DEEP + b"\xc0",
    "a deep outcome": b"\x95\x09" + pair(Claim(A, ONE, 3))[0][2:] + b"\x81\xa1x" + DEEP + b"\xc0",
}


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_what_is_no_array_of_msgpack_is_named(header: bytes, sealed: bool) -> None:
    assert refused(TAG, header, b"", sealed=sealed).kind in {"header", "field"}
    if header in {HEADERS[name] for name in ("empty", "no array", "a map", "cut", "trailing", "a deep member", "a deep outcome")}:
        assert refused(TAG, header, b"", sealed=sealed).kind == "header"


def request_of(**fields: object) -> tuple[object, ...]:
    given = dict(zip(Request.__struct_fields__, msgspec.structs.astuple(request(A, body=b"")), strict=True))
    return (2, *(given | fields).values())


def final_of(**fields: object) -> tuple[object, ...]:
    return (9, A, ONE, 3, {"reason": "ok", "executed": "yes"} | fields)


def heartbeat_of(*rest: object) -> tuple[object, ...]:
    return (14, ONE, b"", *rest)


EXT = msgspec.msgpack.Ext
FIELDS: dict[str, tuple[object, ...]] = {
    "a short id": (3, A[:15]),
    "a long id": (3, A + b"x"),
    "an id that is text": (3, "sixteen letters!"),
    "an id that is an extension": (3, EXT(1, A)),
    "no id": (3,),
    "a claim without its number": (5, A, ONE),
    "a negative claim": (5, A, ONE, -1),
    "a claim of 64 bits": (5, A, ONE, 2**63),
    "a claim that is a float": (5, A, ONE, 1.0),
    "a claim that is not a number": (5, A, ONE, float("nan")),
    "a claim that is text": (5, A, ONE, "1"),
    "a claim that is true": (5, A, ONE, True),
    "a claim that is nothing": (5, A, ONE, None),
    "a claim that is an instant": (5, A, ONE, EXT(-1, b"\x00\x00\x00\x01")),
    "a short life": (5, A, ONE[:8], 1),
    "no life": (5, A, b"", 1),
    "time that has run out": (6, A, ONE, 3, -1),
    "time without end": (6, A, ONE, 3, 2**31 + 1),
    "no service": request_of(service=""),
    "a long service": request_of(service="x" * 257),
    "a long method": request_of(method="x" * 257),
    "a long principal": request_of(principal="x" * 257),
    "a long key": request_of(key="x" * 65_537),
    "a long trace": request_of(trace="x" * 65_537),
    "a method that is bytes": request_of(method=b"acme.charge"),
    "an unknown effect": request_of(effect="twice"),
    "an unknown verdict": request_of(executed="maybe"),
    "a long verdict": request_of(executed="x" * 100_000),
    "negative attempts": request_of(attempts=-1),
    "a body in the header": request_of(body=b"{}"),
    "an unknown kind of reject": (4, A, "later"),
    "a refusal without reason": (4, A, "refused"),
    "a refusal for no reason of ours": (4, A, "refused", "bored"),
    "a long message of a reject": (4, A, "drop", "", "x" * 65_537),
    "a settled list too long": (10, ONE, [A] * 100_001),
    "a short id among settled": (10, ONE, [A, B[:3]]),
    "too many services": (13, ONE, {f"s{number}": 1 for number in range(10_001)}, 1000),
    "negative credit": (13, ONE, {"acme": -1}, 1000),
    "a service without name": (13, ONE, {"": 1}, 1000),
    "an offer that is none": (13, ONE, {}, 1000, ["reports.build"]),
    "an offer without service": (13, ONE, {}, 1000, [["reports.build"]]),
    "an offer of a huge schema": (13, ONE, {}, 1000, [["m", "s", "once", 0, "", b"x" * 1_048_577]]),
    "too many offers": (16, [], [["m", "s"]] * 10_001),
    "too many lives": (16, [ONE] * 10_001),
    "a peer's life of 5 bytes": (1, ONE, b"12345"),
    "a worker's view of a life of 15 bytes": (13, ONE, {}, 1000, [], ONE[:15]),
    "a peer's life of 17 bytes": (1, ONE, ONE + b"x"),
    "a beat with half a life": (14, ONE, ONE[:8], 1, 2),
    "a negative count": heartbeat_of(-1, 2),
    "in flight too long": heartbeat_of(1, 2, False, [A] * 100_001),
    "a lag without end": heartbeat_of(1, 2, False, None, 2**31 + 1),
}
OUTCOMES: dict[str, tuple[object, ...]] = {
    "an outcome that is a list": (9, A, ONE, 3, ["ok", "yes"]),
    "an outcome of nothing": (9, A, ONE, 3, {}),
    "an outcome without verdict": (9, A, ONE, 3, {"reason": "ok"}),
    "an unknown reason": final_of(reason="bored"),
    "a detail that is no JSON": final_of(reason="application", code=1, detail=b"}{"),  # it would stand in the answer as it is
    "a detail that is no UTF-8": final_of(reason="application", code=1, detail=b'"\xff"'),
    "a detail without a bottom": final_of(reason="application", code=1, detail=b"[" * 5000 + b"]" * 5000),
    "a body that is no JSON": final_of(reason="provider_refused", body=b"<html>"),
    "an unknown reason, with a code": final_of(reason="bored", code=1),  # it would stand in a header of the answer
    "an application's error without code": final_of(reason="application"),
    "an unknown verdict of an outcome": final_of(executed="perhaps"),
    "a result in the header": final_of(result=b"{}"),
    "too many attempts": final_of(
        attempts=[{"provider": "a", "started_ms": 0, "duration_ms": 0, "reason": "ok", "executed": "no"}] * 101
    ),
    "too many errors": final_of(errors=[{"path": "", "message": ""}] * 101),
    "a pause below nothing": final_of(retry_after_ms=-1),
}


@pytest.mark.parametrize("members", FIELDS.values(), ids=FIELDS)
@pytest.mark.parametrize("sealed", [False, True])
def test_a_field_out_of_its_bounds_is_named(members: tuple[object, ...], sealed: bool) -> None:
    error = refused(TAG, packed(*members), b"", sealed=sealed)
    assert error.kind == "field"
    assert len(str(error)) < 300


@pytest.mark.parametrize("members", OUTCOMES.values(), ids=OUTCOMES)
def test_an_outcome_that_is_none_is_named_by_who_reads_it(members: tuple[object, ...]) -> None:
    assert refused(TAG, packed(*members), b"").kind == "field"
    assert isinstance(decode([TAG, packed(*members), b""], sealed=True)[0], Final)


NO_RESULTS = (
    b"{",
    b"1 2",
    b"NaN",
    b"\xef\xbb\xbf1",
    b'"\xff"',
    b'"\xed\xa0\x80"',
    b'"a"},{"jsonrpc":"2.0","id":2,"result":"forged"',
    b" ",
    b"[" * 5000,
)


@pytest.mark.parametrize("result", NO_RESULTS, ids=repr)
def test_a_result_that_is_no_json_value_is_an_answer_that_cannot_be_used(result: bytes) -> None:
    """It would stand in the answer as it is; in a batch it could be the answer to another call."""
    attempt = Attempt(provider="acme", started_ms=0, duration_ms=7, reason="ok", executed="yes", status=200)
    said = Final(A, ONE, 1, Outcome(reason="ok", executed="yes", result=result, status=200, attempts=(attempt,)))
    (heard,) = decode(encode([said]))
    assert isinstance(heard, Final)
    outcome = heard.outcome
    assert (outcome.reason, outcome.executed, outcome.result) == ("response_invalid", "unknown", b"")
    assert (outcome.status, outcome.attempts) == (200, (attempt,))
    assert outcome.message.startswith("The worker's answer is no JSON value: ")
    (carried,) = decode(encode([said]), sealed=True)
    assert decode(encode([carried])) == [heard], "whoever only carries it does not look"


def test_a_result_is_looked_at_only_where_it_is_one() -> None:
    for outcome in (Outcome(reason="ok", executed="yes"), Outcome(reason="worker_lost", executed="unknown", result=b"{")):
        assert decode(encode([Final(A, ONE, 1, outcome)])) == [Final(A, ONE, 1, outcome)]


def test_text_is_utf_8() -> None:
    header = packed(4, A, "drop", "", "xx").replace(b"\xa2xx", b"\xa2\xff\xfe")
    assert refused(TAG, header, b"").kind == "field"


def test_a_body_is_only_where_one_belongs() -> None:
    for message in (
        Cancel(A),
        Heartbeat(life=ONE, peer_life=b"", sent=0, received=0),
        Hello(ONE),
        Reject(A, "drop"),
        Workers(()),
    ):
        assert refused(TAG, pair(message)[0], b"x").kind == "body"


def test_what_is_doubled_within_a_message_does_no_harm() -> None:
    header = b"\x94\x0d\xc4\x10" + ONE + b"\x82\xa4acme\x01\xa4acme\x02" + b"\xcd\x03\xe8"
    assert decode([TAG, header, b""]) == [Ready(ONE, {"acme": 2}, 1000)]
    header = packed(9, A, ONE, 3) + b"\x83\xa6reason\xa2ok\xa8executed\xa2no\xa8executed\xa3yes"
    assert decode([TAG, header.replace(b"\x94", b"\x95", 1), b""]) == [Final(A, ONE, 3, Outcome(reason="ok", executed="yes"))]


@given(st.lists(messages, max_size=3), st.sampled_from([*HEADERS.values(), packed(99)]), st.lists(messages, max_size=3))
def test_one_that_cannot_be_read_takes_the_others_with_it_unless_they_are_salvaged(
    before: list[Message], junk: bytes, after: list[Message]
) -> None:
    frames = [*encode(before), junk, b"", *encode(after)[1:]]
    error = refused(*frames)
    saved, errors = salvage(frames)
    assert saved == before + after
    assert [str(each) for each in errors] == [str(error)]


def test_nothing_is_salvaged_of_what_is_not_ours() -> None:
    for frames in ([], [b"HOM2", b"", b""], [TAG, b""]):
        saved, errors = salvage(frames)
        assert saved == []
        assert [error.kind for error in errors] == [refused(*frames).kind]


def test_what_a_sealed_broker_carries_is_salvaged_there_too() -> None:
    frames = [*encode([Final(A, ONE, 3, OK), Cancel(B)]), b"\xc1", b""]
    saved, errors = salvage(frames, sealed=True)
    assert encode(saved) == frames[:-2]
    assert [error.kind for error in errors] == ["header"]


# anything at all


@st.composite
def mutated(draw: st.DrawFn) -> list[bytes]:
    """Frames of true messages with bytes exchanged, put in, taken out; frames cut, doubled, swapped or lost."""
    frames = encode(draw(st.lists(messages, min_size=1, max_size=3)))
    for _ in range(draw(st.integers(1, 4))):
        index = draw(st.integers(1, len(frames) - 1)) if len(frames) > 1 else 0
        frame = bytearray(frames[index])
        at = draw(st.integers(0, len(frame)))
        match draw(st.sampled_from(["exchange", "insert", "delete", "cut", "double", "lose", "swap"])):
            case "exchange":
                frame[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "insert":
                frame[at:at] = draw(st.binary(min_size=1, max_size=5))
            case "delete":
                del frame[at : at + draw(st.integers(1, 5))]
            case "cut":
                del frame[at:]
            case "double":
                frames.insert(index, bytes(frame))
            case "lose":
                frame = bytearray()
            case "swap":
                frames[-1], frames[index] = frames[index], frames[-1]
                continue
        frames[index] = bytes(frame)
    return frames


values = st.recursive(
    st.none() | st.booleans() | whole | st.floats() | st.text(max_size=9) | st.binary(max_size=17) | ids,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner, max_size=5),
    max_leaves=20,
)
any_arrays = st.lists(values, max_size=12).flatmap(
    lambda members: st.integers(0, 18).map(lambda number: [TAG, packed(number, *members), b""])
)
any_frames = st.lists(st.binary(max_size=80), max_size=5).flatmap(lambda rest: st.sampled_from([rest, [TAG, *rest]]))


@settings(max_examples=400)
@given(mutated() | any_arrays | any_frames, st.booleans())
def test_whatever_comes_is_messages_or_a_wire_error(frames: list[bytes], sealed: bool) -> None:
    try:
        found = decode(frames, sealed=sealed)
    except WireError as error:
        assert error.kind in KINDS  # noqa: PT017 -- either is right
        saved, errors = salvage(frames, sealed=sealed)
        assert errors
        assert len(saved) + len(errors) <= max(1, len(frames) // 2)
    else:
        again = encode(found)
        assert encode(decode(again, sealed=sealed)) == again
        assert sealed or decode(again) == found
        assert salvage(frames, sealed=sealed)[1] == []


def test_the_kinds_are_all_there_are() -> None:
    kinds = {
        refused().kind,
        refused(b"HOM2").kind,
        refused(TAG, b"", b"").kind,
        refused(TAG, packed(99), b"").kind,
        refused(TAG, packed(3), b"").kind,
        refused(TAG, packed(3, A), b"x").kind,
    }
    assert kinds == set(KINDS)
