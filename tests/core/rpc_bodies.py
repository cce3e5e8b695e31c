"""Reading bodies in tests: a call, or what was refused."""

from homing.core.jsonrpc import Call, Parsed, Refused, parse


def read(body: bytes | str, limit: int = 1000) -> Parsed:
    return parse(body.encode() if isinstance(body, str) else body, batch_length_max=limit)


def call(body: bytes | str) -> Call:
    parsed = read(body)
    assert isinstance(parsed, Call), parsed
    return parsed


def refused(body: bytes | str) -> tuple[bytes, str, str]:
    parsed = read(body)
    assert isinstance(parsed, Refused), parsed
    assert parsed.outcome.executed == "no"
    assert parsed.outcome.message
    return parsed.id, parsed.outcome.reason, parsed.outcome.message


def with_params(params: str) -> str:
    return '{"jsonrpc":"2.0","method":"m","params":' + params + ',"id":1}'
