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
    Release,
)

KINDS = typing.get_args(Message)
FROM_WORKER_TO_GATEWAY = (Claim, Final, Release)


def test_every_struct_of_the_module_is_a_message() -> None:
    kinds = {
        kind
        for kind in vars(messages).values()
        if isinstance(kind, type) and kind.__module__ == messages.__name__ and hasattr(kind, "__struct_fields__")
    }
    assert kinds == set(KINDS)


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


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != Final], ids=lambda kind: kind.__name__)
def test_only_an_outcome_is_more_than_plain_values(kind: Any) -> None:
    for hint in typing.get_type_hints(kind).values():
        members = {*typing.get_args(hint)} or {hint}
        assert not any(isinstance(member, type) and issubclass(member, msgspec.Struct) for member in members)
