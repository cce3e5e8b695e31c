"""Who takes part in the conversations: one gateway, two brokers, two workers, and the calls between them."""

from typing import Any

from homing.core.machine import Submitted
from homing.core.messages import Request
from homing.errors import Outcome, failure

GATEWAY = b"gateway-life-one"
OTHER_GATEWAY = b"other-gatew-life"
BROKER_LIFE = b"broker-life-one!"
ONE = b"worker-life-one!"
TWO = b"worker-life-two!"

BROKER = b"broker"
BACKUP = b"backup"
G = b"gateway"
W1 = b"worker 1"
W2 = b"worker 2"

OK = Outcome(reason="ok", executed="yes", result=b'{"id":7}')


def call_id(number: int = 1, gateway: bytes = GATEWAY) -> bytes:
    return gateway[:8] + number.to_bytes(8, "big")


A, B, C = call_id(1), call_id(2), call_id(3)


def submitted(call: bytes = A, **fields: Any) -> Submitted:
    """A call of 10 s admitted at instant 0, unless `fields` say otherwise."""
    given: dict[str, Any] = {
        "call_id": call,
        "service": "acme",
        "method": "acme.charge",
        "deadline": 10.0,
        "timeout_ms": 10_000,
        "effect": "once",
        "principal": "webshop",
        "key": "provider-key",
        "caller_key": "order-17",
        "body": b'{"amount":1}',
    }
    return Submitted(**(given | fields))


def request(call: bytes = A, **fields: Any) -> Request:
    """The copy that such a call becomes."""
    given: dict[str, Any] = {
        "call_id": call,
        "service": "acme",
        "method": "acme.charge",
        "remaining_ms": 10_000,
        "effect": "once",
        "principal": "webshop",
        "key": "provider-key",
        "attempts": 0,
        "executed": "no",
        "trace": "",
        "body": b'{"amount":1}',
    }
    return Request(**(given | fields))


def unreachable(**fields: Any) -> Outcome:
    return failure("provider_unreachable", "refused", **fields)


def lost(**fields: Any) -> Outcome:
    return failure("connection_lost", "reset", **fields)
