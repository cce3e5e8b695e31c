"""The vocabulary between gateway, broker and worker: plain values that say whom they are about."""

import typing
from typing import Any

import msgspec
import pytest

from homing.core import messages
from homing.core.messages import (
    CALL_ID_BYTES,
    GATEWAY_BYTES,
    LIFE_BYTES,
    Claim,
    Deny,
    Final,
    Grant,
    Lost,
    LostSeen,
    Message,
    MethodOffer,
    Ready,
    Release,
    Workers,
)
from homing.errors import Outcome

KINDS = typing.get_args(Message)
FROM_WORKER_TO_GATEWAY = (Claim, Final, Release)


def test_every_struct_of_the_module_is_a_message_or_the_offer_that_two_of_them_carry() -> None:
    kinds = {
        kind
        for kind in vars(messages).values()
        if isinstance(kind, type) and kind.__module__ == messages.__name__ and hasattr(kind, "__struct_fields__")
    }
    assert kinds == {*KINDS, MethodOffer}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_message_cannot_be_changed_on_its_way(kind: Any) -> None:
    assert kind.__struct_config__.frozen
    assert kind.__doc__


@pytest.mark.parametrize("kind", [*FROM_WORKER_TO_GATEWAY, Grant, Deny, Lost, LostSeen], ids=lambda kind: kind.__name__)
def test_whatever_is_about_a_claim_names_call_life_and_claim(kind: Any) -> None:
    assert kind.__struct_fields__[:3] == ("call_id", "life", "claim")


def test_a_call_id_begins_with_its_gateways_life() -> None:
    assert GATEWAY_BYTES < CALL_ID_BYTES
    assert GATEWAY_BYTES < LIFE_BYTES


def test_every_message_has_a_number_of_its_own() -> None:
    assert sorted(kind.__struct_config__.tag for kind in KINDS) == list(range(1, len(KINDS) + 1))
    assert all(kind.__struct_config__.array_like for kind in [*KINDS, MethodOffer])


@pytest.mark.parametrize("kind", [*KINDS, MethodOffer], ids=lambda kind: kind.__name__)
def test_only_outcomes_and_offers_are_more_than_plain_values(kind: Any) -> None:
    structs = {
        member
        for hint in typing.get_type_hints(kind).values()
        for member in {*typing.get_args(hint)} or {hint}
        if isinstance(member, type) and issubclass(member, msgspec.Struct)
    }
    assert structs == {Final: {Outcome}, Ready: {MethodOffer}, Workers: {MethodOffer}}.get(kind, set())
