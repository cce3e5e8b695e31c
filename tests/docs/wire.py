"""The wire as the code has it, to be compared with `docs/reference/protocol.md`: types, fields with their bounds, and one exchange in hex.

`python -m tests.docs.wire` prints the exchange as it belongs on the page.
"""

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from homing.core import codec
from homing.core.messages import Claim, Final, Grant, Heartbeat, Message, MethodOffer, Request, Settled
from homing.errors import Attempt, Outcome, ParamError

KINDS: tuple[Any, ...] = Message.__args__
MAPS: tuple[Any, ...] = (Outcome, Attempt, ParamError)
CHECKED_BY_CODEC = {
    "attempts": f"array of up to {codec.ATTEMPTS_MAX} attempts",
    "errors": f"array of up to {codec.PARAM_ERRORS_MAX} errors",
    "retry_after_ms": "integer, 0 or more, or nil",
}


def wire_name(kind: Any) -> str:
    """LOST_SEEN of LostSeen."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__).upper()


def number_of(kind: Any) -> int:
    """A message's number."""
    tag = kind.__struct_config__.tag
    assert isinstance(tag, int)
    return tag


def fields_of(kind: Any) -> list[tuple[str, str, str]]:
    """Name, type with bounds, and default of each field, as the page says them."""
    info = inspect.type_info(kind)
    assert isinstance(info, inspect.StructType)
    rows = []
    for field in info.fields:
        written = CHECKED_BY_CODEC.get(field.name) if kind is Outcome else None
        rows.append((field.name, written or type_of(field.type), "" if field.required else default_of(field.default)))
    return rows


def default_of(value: object) -> str:
    """A default as the page says it."""
    words = {None: "nil", False: "false", True: "true"}
    if value is None or isinstance(value, bool):
        return words[value]
    return "empty" if value in (b"", "", ()) else str(value)


def type_of(kind: inspect.Type) -> str:
    """A type and its bounds in words."""
    match kind:
        case inspect.BytesType(min_length=16, max_length=16):
            return "16 bytes"
        case inspect.BytesType(max_length=16):
            return "0 or 16 bytes"
        case inspect.BytesType(max_length=longest):
            return f"bytes, up to {longest:,}" if longest else "bytes"
        case inspect.StrType(min_length=1, max_length=longest):
            return f"text, 1 to {longest}"
        case inspect.StrType(max_length=longest):
            return f"text, up to {longest:,}" if longest else "text"
        case inspect.IntType(ge=0, le=greatest):
            return f"integer, 0 to 2^{greatest.bit_length() - 1}" if greatest == 2**31 else "integer, 0 to 2^63 − 1"
        case inspect.IntType():
            return "integer"
        case inspect.BoolType():
            return "boolean"
        case inspect.LiteralType(values=values):
            words = [f"`{value}`" for value in values]
            return f"{', '.join(words[:-1])} or {words[-1]}"
        case inspect.VarTupleType(item_type=item, max_length=longest):
            return f"array of up to {longest:,}: {type_of(item)}"
        case inspect.DictType(key_type=key, value_type=value, max_length=longest):
            return f"map of up to {longest:,}: {type_of(key)} → {type_of(value)}"
        case inspect.StructType(cls=cls):
            return {MethodOffer: "offer", Outcome: "map, see OUTCOME"}[cls]
        case inspect.UnionType(types=types):
            (inner,) = [each for each in types if not isinstance(each, inspect.NoneType)]
            return f"{type_of(inner)}, or nil"
    raise AssertionError(kind)


GATEWAY_LIFE = bytes.fromhex("1f3a9c0577e2d4b86a90c1e35d7f2b48")
WORKER_LIFE = bytes.fromhex("c0ffee5eed0b51dea11fe0ddba11ade5")
BROKER_LIFE = bytes.fromhex("b20ce2f0a9d84716835e0c4db7f16a29")
CALL_ID = GATEWAY_LIFE[:8] + bytes.fromhex("0e4d8a61f2b7c935")
EXCHANGE: list[tuple[str, list[Message]]] = [
    (
        "gateway to broker, and broker to worker",
        [
            Request(
                call_id=CALL_ID,
                service="acme",
                method="acme.charge",
                remaining_ms=60_000,
                effect="once",
                principal="webshop",
                key="order-17",
                attempts=0,
                executed="no",
                trace="",
                body=b'{"amount":1}',
            )
        ],
    ),
    ("worker to broker, and broker to gateway", [Claim(CALL_ID, WORKER_LIFE, 1)]),
    ("gateway to broker, and broker to worker", [Grant(CALL_ID, WORKER_LIFE, 1, 59_998)]),
    (
        "worker to broker, and broker to gateway",
        [Final(CALL_ID, WORKER_LIFE, 1, Outcome(reason="ok", executed="yes", result=b'{"id":7}', status=200))],
    ),
    (
        "gateway to broker: two messages in one",
        [
            Settled(WORKER_LIFE, (CALL_ID,)),
            Heartbeat(life=GATEWAY_LIFE, peer_life=BROKER_LIFE, sent=4, received=3, frame_bytes_max=16_777_216),
        ],
    ),
]


def exchange() -> str:
    """The exchange as text: a paragraph for each ZeroMQ message, a line for each member of a header."""
    return "\n\n".join("\n".join([title, *_paragraph(said)]) for title, said in EXCHANGE) + "\n"


def _paragraph(said: list[Message]) -> Iterator[str]:
    yield _line(1, codec.TAG, "the tag")
    for index, message in enumerate(said):
        header, body = codec.pair(message)
        members = _members(header, message)
        for at, (octets, meaning) in enumerate(members):
            yield _line(0 if at else 2 + 2 * index, octets, meaning)
        yield _line(3 + 2 * index, body, f"body: {body.decode()}" if body else "body: none")


def _members(header: bytes, message: Message) -> list[tuple[bytes, str]]:
    """A header cut into its members, each with what it is."""
    values = msgspec.msgpack.decode(header)
    found = [(header[:2], f"{wire_name(type(message))}, an array of {len(values)}")]
    for name, value in zip(type(message).__struct_fields__, values[1:], strict=True):
        if isinstance(value, dict):
            found.append((b"\xde" + len(value).to_bytes(2, "big"), f"{name}, a map of {len(value)}"))
            found += [(_packed(key) + _packed(inner), f"{key} {inner!r}".replace("'", '"')) for key, inner in value.items()]
        elif isinstance(value, list):
            found.append((bytes([0x90 + len(value)]), f"{name}, an array of {len(value)}"))
            found += [(_packed(inner), "") for inner in value]
        else:
            shown = name if isinstance(value, bytes) and value else f"{name} {_shown(value)}"
            found.append((_packed(value), shown))
    assert b"".join(octets for octets, _ in found) == header
    return found


def _packed(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def _shown(value: object) -> str:
    if value in (b"", ""):
        return "(empty)"
    return f'"{value}"' if isinstance(value, str) else default_of(value)


def _line(frame: int, octets: bytes, meaning: str) -> str:
    return f"{f'frame {frame}' if frame else '':9}{octets.hex(' ') or '-':56}{meaning}".rstrip()


_LINE = re.compile(r"^(?:(frame \d+) |\s{9}) *(-|[0-9a-f]{2}(?: [0-9a-f]{2})*)(?:  .*)?$")


def frames_in(paragraph: str) -> list[bytes]:
    """The frames that a paragraph shows; this reads hex and nothing else."""
    frames: list[bytes] = []
    for line in paragraph.splitlines()[1:]:
        match = _LINE.match(line)
        assert match, line
        octets = b"" if match[2] == "-" else bytes.fromhex(match[2])
        if match[1]:
            frames.append(octets)
        else:
            frames[-1] += octets
        assert not match[1] or match[1] == f"frame {len(frames)}", line
    return frames


if __name__ == "__main__":
    print(exchange(), end="")
