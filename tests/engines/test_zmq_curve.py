"""Who may come in under CURVE, and what those are told who may not."""

import pytest

from homing.core.machine import PeerFound
from homing.core.messages import Cancel, Claim
from homing.curve import is_key
from homing.engines.zmq_curve import CurveClient, CurveServer, new_keys
from tests.core.people import ONE, A
from tests.engines.zmq_people import HERE, Keys, party, raw, say_raw
from tests.loops import on_both_loops, run, until

BROKER, ANN, BOB, STRANGER = Keys(), Keys(), Keys(), Keys()


@on_both_loops
async def test_who_is_on_the_list_comes_in_under_its_name() -> None:
    async with party() as broker, party() as ann, party() as bob:
        endpoint = broker.bind(curve=BROKER.letting_in(ann=ANN, bob=BOB))
        for each, keys, number in ((ann, ANN, 1), (bob, BOB, 2)):
            there = each.dial(endpoint, curve=keys.to(BROKER.public))
            await until(lambda each=each: each.found)  # type: ignore[misc]
            each.say(there, Claim(A, ONE, number))
        await until(lambda: len(broker.heard) == 2)
        users = {event.user: event.peer for event in broker.ears.heard if isinstance(event, PeerFound)}
        assert users.keys() == {"ann", "bob"}
        broker.say(users["bob"], Cancel(A))
        await until(lambda: bob.heard == [Cancel(A)])
        assert not ann.heard
        assert not broker.engine.counts


@on_both_loops
async def test_who_is_on_no_list_is_refused_and_both_sides_are_told_why() -> None:
    told: list[str] = []
    heard: list[str] = []
    async with (
        party(warn=lambda kind, sentence: told.append(sentence)) as broker,
        party(warn=lambda kind, sentence: heard.append(sentence)) as stranger,
        party() as ann,
    ):
        endpoint = broker.bind(curve=BROKER.letting_in(ann=ANN))
        stranger.dial(endpoint, curve=STRANGER.to(BROKER.public))
        await until(lambda: broker.engine.counts["denied"] and heard)
        assert STRANGER.public.decode() in told[0]
        assert "127.0.0.1" in told[0]
        assert "on no list" in heard[0]
        ann.dial(endpoint, curve=ANN.to(BROKER.public))
        await until(lambda: ann.found)
        assert not stranger.found
        assert not broker.found


def test_a_wrong_broker_key_is_told_to_both() -> None:
    async def main() -> None:
        heard: list[str] = []
        async with party() as broker, party(warn=lambda kind, sentence: heard.append(sentence)) as ann:
            endpoint = broker.bind(curve=BROKER.letting_in(ann=ANN))
            ann.dial(endpoint, curve=ANN.to(STRANGER.public))
            await until(lambda: broker.engine.counts["handshake"] and heard)
            assert "is not that broker's public key" in heard[0]
            assert not ann.found

    run(main())


@pytest.mark.parametrize("curve_at_the_broker", [True, False], ids=["plain to curve", "curve to plain"])
def test_plain_and_curve_do_not_meet(curve_at_the_broker: bool) -> None:
    async def main() -> None:
        heard: list[str] = []
        async with party() as broker, party(warn=lambda kind, sentence: heard.append(sentence)) as ann:
            endpoint = broker.bind(curve=BROKER.letting_in(ann=ANN) if curve_at_the_broker else None)
            ann.dial(endpoint, curve=None if curve_at_the_broker else ANN.to(BROKER.public))
            await until(lambda: broker.engine.counts["handshake"] and heard)
            assert "only one of them speaks CURVE" in heard[0]
            assert not ann.found
            assert not broker.found

    run(main())


def test_each_endpoint_has_a_list_of_its_own() -> None:
    async def main() -> None:
        async with party() as broker, party() as ann, party() as bob:
            for_ann = broker.bind(curve=BROKER.letting_in(ann=ANN))
            for_bob = broker.bind(curve=BROKER.letting_in(bob=BOB))
            plain = broker.bind()
            ann.dial(for_bob, curve=ANN.to(BROKER.public))
            bob.dial(for_bob, curve=BOB.to(BROKER.public))
            await until(lambda: bob.found and broker.engine.counts["denied"])
            assert not ann.found
            ann.dial(for_ann, curve=ANN.to(BROKER.public))
            await until(lambda: ann.found == [for_ann.encode()])
            with raw(plain) as peer:
                say_raw(peer, Cancel(A))
                await until(lambda: broker.found)
            assert PeerFound(broker.found[0], "") in broker.ears.heard

    run(main())


def test_a_routing_id_that_another_left_brings_nobody_into_his_name() -> None:
    """Bob takes the routing id that Ann had, in the moment she goes; what he says is never taken for hers."""

    async def main() -> None:
        async with party() as broker:
            endpoint = broker.bind(curve=BROKER.letting_in(ann=ANN, bob=BOB))
            for keys in (ANN, BOB):
                with raw(
                    endpoint,
                    ROUTING_ID=b"same",
                    LINGER=1000,
                    CURVE_SERVERKEY=BROKER.public,
                    CURVE_PUBLICKEY=keys.public,
                    CURVE_SECRETKEY=keys.secret,
                ) as peer:
                    say_raw(peer, Claim(A, ONE, 1 if keys is ANN else 2))
                    await until(lambda: len(broker.heard) == (1 if keys is ANN else 2))  # noqa: B023
            users = {event.peer: event.user for event in broker.ears.heard if isinstance(event, PeerFound)}
            assert list(users.values()) == ["ann", "bob"]

    run(main())


def test_it_takes_a_key_to_make_a_door() -> None:
    async def main() -> None:
        async with party() as broker:
            with pytest.raises(ValueError, match="the secret key of this broker is no CURVE key; expected 40 characters"):
                broker.bind(curve=CurveServer(b"x" * 39, {}))
            with pytest.raises(ValueError, match="the public key of ann is no CURVE key"):
                broker.bind(curve=CurveServer(BROKER.secret, {b"~" * 40: "ann"}))
            for keys, what in (
                (CurveClient(ANN.public, ANN.secret, b""), "the public key of the broker"),
                (CurveClient(b"#" * 40, ANN.secret, BROKER.public), "the public key of this process"),
                (CurveClient(ANN.public, b"\xff" * 40, BROKER.public), "the secret key of this process"),
            ):
                with pytest.raises(ValueError, match=f"{what} is no CURVE key"):
                    broker.dial("tcp://127.0.0.1:1", curve=keys)
            assert not broker.engine._desk.outlets.get(HERE)

    run(main())


def test_every_pair_is_new_and_secrets_are_in_no_repr() -> None:
    pairs = {new_keys() for _ in range(20)}
    assert len(pairs) == 20
    assert all(is_key(public) and is_key(secret) for public, secret in pairs)
    assert ANN.secret.decode() not in repr(ANN.to(BROKER.public))
    assert BROKER.secret.decode() not in repr(BROKER.letting_in(ann=ANN))
