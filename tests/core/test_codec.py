"""Messages become frames and come back the same; whatever else comes in as frames is told apart, and raises nothing else."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.codec import TAG, Sealed, WireError, decode, encode, frame_bytes, pair
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
from tests.core.people import ONE, A, request
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
    result=bodies,
    message=texts,
    code=maybe(whole),
    retry_after_ms=maybe(st.integers(0, 2**64 - 1)),
    limit=maybe(texts),
    errors=tuples(st.builds(ParamError, texts, texts)),
    status=maybe(whole),
    body=maybe(bodies),
    body_truncated=st.booleans(),
    attempts=tuples(attempts),
    again=st.booleans(),
    settles_earlier=st.booleans(),
    detail=maybe(bodies),
    retry=maybe(st.sampled_from(["safe", "same_key", "unsafe", "pointless"])),
    timeout_ms=maybe(whole),
    idempotency_key=maybe(texts),
    key_expires_ms=maybe(whole),
) | st.builds(Outcome, reason=texts, executed=verdicts, code=whole)
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
