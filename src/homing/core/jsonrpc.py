"""JSON-RPC 2.0 by the letter: bytes to calls, outcomes to bytes.

The one look at a body that comes before it is trusted happens here too: UTF-8, nesting, numbers. What is not a request becomes a
`Refused` that carries its own answer; nothing here raises because of what a caller sent, but for the two readers of headers.
"""

import json
import re
from collections import Counter
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from itertools import accumulate
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, DecodeError, Raw, Struct, UnsetType, ValidationError

from homing.errors import ROWS, Attempt, Outcome, ParamError, Retry, Verdict, code_of, failure, retry_of

DEPTH_MAX: Final = 64  # arrays and objects within each other, a batch's own array included
NUMBER_DIGITS_MAX: Final = 4300  # digits of a number written out; CPython converts no longer ones, for that takes quadratic time
KEY_LENGTH_MAX: Final = 255  # characters of an idempotency key
TIMEOUT_RANGE_S: Final = (0.001, 1e9)  # what a timeout is held to here; the gateway's own bounds are narrower
NULL: Final = b"null"


class Call(Struct, gc=False):
    """One readable request.

    `id` is its JSON text byte for byte, None for a notification. `params` is decoded (None if absent): ints are exact, and a
    number that a float would change is a Decimal. `params_raw` is the text that `params` was read from (b"" if absent), or encoded
    from it anew if that text had duplicate members or `_meta.homing`: nobody reads from it what was not validated.
    """

    id: bytes | None
    method: str
    params: object
    params_raw: bytes
    timeout_s: float | None
    idempotency_key: str | None


class Refused(Struct, gc=False):
    """What is no request, with the answer it gets. `id` is b"null" if it could not be read."""

    id: bytes
    outcome: Outcome


class Batch(Struct):
    """The items of a batch in their order. A batch over the limit holds one `Refused` for all of it."""

    items: list[Call | Refused]


Parsed: TypeAlias = Call | Refused | Batch


def _number(text: str) -> float | Decimal:
    """A float where that is the same number, else a Decimal. Raises ValueError for one that is too long when written out."""
    if len(text) > NUMBER_DIGITS_MAX:
        raise ValueError("too long a number")
    rounded = float(text)
    size = abs(rounded)
    # Up to 15 significant digits survive a float that is neither subnormal nor too large (C11 5.2.4.2.2, DBL_DIG).
    if (len(text) < 17 and 2.3e-308 < size < 1.7e308) or repr(rounded) == text:
        return rounded
    try:
        exact = Decimal(text)
    except InvalidOperation:  # an exponent beyond 10^18
        raise ValueError("too long a number") from None
    if abs(exact.adjusted()) > NUMBER_DIGITS_MAX:
        raise ValueError("too long a number")
    if size in _ENDS:  # zero is written in many ways, and nothing else is that small or that large
        return exact or rounded
    return rounded if Decimal(repr(rounded)) == exact else exact


_ENDS: Final = (0.0, float("inf"))
_ABSENT: Final = Raw()


class _Envelope(Struct, gc=False):
    jsonrpc: Literal["2.0"]
    method: str
    params: Raw = _ABSENT
    id: Raw = _ABSENT
    meta: Raw = _ABSENT


_read_envelope = msgspec.json.Decoder(_Envelope).decode
_read_members = msgspec.json.Decoder(dict[str, Raw]).decode
_read_items = msgspec.json.Decoder(list[Raw]).decode
_read_raw = msgspec.json.Decoder(Raw).decode
_read_value = msgspec.json.Decoder(object, float_hook=_number).decode
_write = msgspec.json.Encoder(decimal_format="number").encode

_WHITESPACE: Final = b" \t\n\r"  # RFC 8259 section 2
_STRING: Final = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'  # possessive, so that no text makes it go back
_strings = re.compile(_STRING, re.DOTALL)
_strings_and_colons = re.compile(_STRING + rb"[ \t\n\r]*+(:?)", re.DOTALL)
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # as signed bytes: one down, one up
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[{]}"))
_BOUNDED_MAX: Final = 4096  # items up to which a reader that stops is worth making: of 100,000 it takes seconds
_ENVELOPE_LENGTH: Final = len(b'{"jsonrpc":"2.0","method":"","params":,"id":}')
_ID_STARTS: Final = b'"-0123456789n'  # string, number, null
_half_pair = re.compile(rb"(?<!\\)\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u)")
_ends_early = re.compile("truncated|unexpected end of hex escape")  # what a half pair is told as
_seconds = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_bare_key = re.compile(r"[!#-+\--~](?:[ !#-+\--~]*[!#-+\--~])?")  # printable ASCII without quote and comma
_quoted_key = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])*)"')  # sf-string, RFC 8941 section 3.3.3
_printable_key = re.compile(r"[ -~]+")


def parse(body: bytes, *, batch_length_max: int, envelopes_only: bool = False) -> Parsed:
    """Read a body. Never raises.

    `envelopes_only` is for callers who will be let in nowhere: their params and wishes are not looked at, and the calls have none. To
    read numbers takes far longer than all else that is done with a body.
    """
    if len(body) > 2 * DEPTH_MAX or not body.isascii():
        wrong = _flaw(body, DEPTH_MAX)
        if wrong is not None:
            return wrong
    if body[:1] != b"{" and body.lstrip(_WHITESPACE)[:1] == b"[":
        return _parse_batch(body, batch_length_max, envelopes_only)
    return _parse_one(body, envelopes_only)


def check_json(body: bytes, depth_max: int) -> None:
    """Raises ValueError unless the body is one JSON value in UTF-8, nested no deeper than `depth_max`."""
    if len(body) > 2 * depth_max or not body.isascii():  # else it has no room for the one flaw, and no byte for the other
        wrong = _flaw(body, depth_max)
        if wrong is not None:
            raise ValueError(wrong.outcome.message[:-1])
    try:
        _read_raw(body)
    except (DecodeError, RecursionError) as error:
        raise ValueError(_not_json(body, error)) from None


def decode_value(text: bytes) -> object:
    """What `Call.params` would be for this text. Raises ValueError if it is no JSON or holds a number that is too long."""
    return _read_value(text)


def read_params(text: bytes) -> tuple[object, bytes]:
    """Params that another process sent, b"" for none: decoded, and a text that says exactly that. Raises ValueError, saying why not.

    Whoever sent them may have checked nothing. What is validated is what was decoded, so nothing else may be passed on.
    """
    if not text:
        return None, b""
    check_json(text, DEPTH_MAX)
    try:
        params = _read_value(text)
    except ValidationError:
        raise ValueError(f"a number has more than {NUMBER_DIGITS_MAX} digits") from None
    if not isinstance(params, dict | list):
        raise ValueError("the params must be an object or an array")
    return params, _without_duplicates(text, params)


def read_call(method: str, params: bytes) -> Call | Refused:
    """A request whose envelope is another protocol's: its params are JSON text, b"" for none, and its id is null. Never raises."""
    if not params:
        return Call(NULL, method, None, b"", None, None)
    wrong = _flaw(params, DEPTH_MAX)
    if wrong is not None:
        return wrong
    try:
        _read_raw(params)
    except DecodeError as error:
        return _refused(NULL, "parse_error", _not_json(params, error))
    return _call(NULL, method, params.strip(_WHITESPACE), b"")


def encode_value(value: object) -> bytes:
    """The JSON text of what `decode_value` gives, every number exactly as it was."""
    return _write(value)


def _flaw(body: bytes, depth_max: int) -> Refused | None:
    """What msgspec does not look at in the parts it skips: UTF-8 and nesting."""
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError as error:
            return _refused(NULL, "parse_error", f"the body is not UTF-8 (byte {error.start})")
    # So many brackets need their counterparts too, or else the text is no JSON and the parser says so.
    if len(body) > 2 * depth_max and body.count(b"[") + body.count(b"{") > depth_max and _depth(body) > depth_max:
        return _refused(NULL, "too_large", f"the JSON is nested deeper than {depth_max}", limit="depth")
    return None


def _depth(body: bytes) -> int:
    """The deepest nesting outside strings, also of a text that turns out further on to be no JSON."""
    steps = _strings.sub(b"", body).translate(_STEPS, _NO_BRACKETS)
    return max(accumulate(memoryview(steps).cast("b")), default=0)


def _not_json(body: bytes, error: Exception) -> str:
    if body.startswith(b"\xef\xbb\xbf"):
        return "the body begins with a byte order mark, which JSON must not have (RFC 8259 section 8.1)"
    half = _half_pair.search(body)
    if half is not None and _ends_early.search(str(error)):
        error = ValueError(f"{half[0].decode()} is one half of a surrogate pair, without the other (byte {half.start()})")
    return f"the body is not JSON: {error}" if body else "the body is empty"


def _refused(id: bytes, reason: str, message: str, *, limit: str | None = None) -> Refused:
    return Refused(id, failure(reason, f"{message[0].upper()}{message[1:]}.", limit=limit))


def _parse_batch(body: bytes, length_max: int, envelopes_only: bool) -> Batch | Refused:
    try:
        if length_max <= _BOUNDED_MAX and body.count(b",") >= length_max:
            _bounded_reader(length_max).decode(body)
        items = _read_items(body)
    except ValidationError:
        return _too_long(length_max)
    except DecodeError as error:
        return _refused(NULL, "parse_error", _not_json(body, error))
    if len(items) > length_max:
        return _too_long(length_max)
    if not items:
        return _refused(NULL, "invalid_request", "the batch is empty")
    return Batch([_parse_one(bytes(item), envelopes_only) for item in items])


def _too_long(length_max: int) -> Batch:
    return Batch([_refused(NULL, "too_large", f"a batch holds at most {length_max} calls", limit="gateway.batch_length_max")])


@lru_cache(maxsize=4)
def _bounded_reader(length_max: int) -> "msgspec.json.Decoder[object]":
    """Raises ValidationError at the first item too many, where a `max_length` would read all of them and then say so."""
    fields = [(f"item{index}", Raw, Raw()) for index in range(length_max)]
    return msgspec.json.Decoder(msgspec.defstruct("Items", fields, array_like=True, forbid_unknown_fields=True, gc=False))


def _parse_one(text: bytes, envelopes_only: bool) -> Call | Refused:
    try:
        envelope = _read_envelope(text)
    except DecodeError:
        return _parse_slowly(text, envelopes_only)
    method = envelope.method
    params_raw = b"".join((envelope.params,))  # as bytes(), and quicker
    raw_id = b"".join((envelope.id,))
    meta_raw = b"" if envelope.meta is _ABSENT else bytes(envelope.meta)
    bare = params_raw and raw_id and len(text) == _ENVELOPE_LENGTH + len(method) + len(params_raw) + len(raw_id)
    if bare and not envelopes_only:
        call = _bare_call(raw_id, method, params_raw)
        if call is not None:
            return call
    elif not bare and _may_have_others(text, (params_raw, raw_id, meta_raw)):
        return _parse_slowly(text, envelopes_only)
    return _call(raw_id, method, params_raw, meta_raw, envelopes_only)


def _bare_call(raw_id: bytes, method: str, params_raw: bytes) -> Call | None:
    """What `_call` makes of a request with an id and an object of params, if nothing is wrong with them and no wishes are in them."""
    if raw_id[0] not in _ID_STARTS:
        return None
    try:
        params = _read_value(params_raw)
    except (ValueError, ValidationError):
        return None
    if not isinstance(params, dict) or "_meta" in params:
        return None
    if params_raw.count(b":") != len(params):
        params_raw = _without_duplicates(params_raw, params)
    return Call(raw_id, method, params, params_raw, None, None)


def _may_have_others(text: bytes, members: tuple[bytes, ...]) -> bool:
    """Whether a request may have members beside these, `jsonrpc` and `method`, or one of them twice: each brings a colon."""
    colons = 2
    for member in members:
        if member:
            colons += 1 + member.count(b":")
    return text.count(b":") != colons  # one in the method's name is one too many, and costs a second look


def _parse_slowly(text: bytes, envelopes_only: bool) -> Call | Refused:
    """For requests with other members beside, and to say what is wrong with a text that is no request."""
    try:
        members = _read_members(text)
    except ValidationError:
        try:
            _read_raw(text)
        except DecodeError as error:
            return _refused(NULL, "parse_error", _not_json(text, error))
        return _refused(NULL, "invalid_request", "a request is a JSON object")
    except DecodeError as error:
        return _refused(NULL, "parse_error", _not_json(text, error))
    raw_id = bytes(members.get("id", b""))
    readable = raw_id if raw_id[:1] in _ID_STARTS else NULL
    if _has_duplicates(text, members):
        # Good JSON by now, and shallow. Objects within become pairs as well; only the names of the outermost are looked at.
        names = Counter(name for name, _ in json.loads(text, object_pairs_hook=list, parse_int=str, parse_float=str))
        name, _ = names.most_common(1)[0]
        return _refused(
            readable if names["id"] == 1 else NULL, "invalid_request", f'the member "{name[:40]}" comes more than once'
        )
    if _text(members, "jsonrpc") != "2.0":
        return _refused(readable or NULL, "invalid_request", 'the member jsonrpc must be "2.0"')
    method = _text(members, "method")
    if method is None:
        return _refused(readable or NULL, "invalid_request", "the method must be a string")
    return _call(raw_id, method, bytes(members.get("params", b"")), bytes(members.get("meta", b"")), envelopes_only)


def _text(members: dict[str, Raw], name: str) -> str | None:
    raw = bytes(members.get(name, b""))
    return msgspec.json.decode(raw, type=str) if raw.startswith(b'"') else None


def _has_duplicates(text: bytes, members: dict[str, Raw]) -> bool:
    """Whether an object's text has more members than were read of it, where each name keeps its last."""
    return _colons(text) - sum(map(_colons, members.values())) != len(members)


def _colons(text: bytes | Raw) -> int:
    """How many colons stand outside strings: one for each member of each object."""
    return b"".join(_strings_and_colons.findall(text)).count(b":")


def _call(raw_id: bytes, method: str, params_raw: bytes, meta_raw: bytes, envelopes_only: bool = False) -> Call | Refused:
    """The call, its envelope being sound so far; b"" stands for an absent member."""
    if raw_id and raw_id[0] not in _ID_STARTS:
        return _refused(NULL, "invalid_request", "the id must be a string, a number or null")
    if envelopes_only:
        params_raw = meta_raw = b""
    timeout_s: float | None = None
    idempotency_key: str | None = None
    params: object = None
    try:
        if meta_raw:
            timeout_s, idempotency_key = _read_meta(meta_raw)
        if params_raw:
            if params_raw[0] not in b"{[":
                raise ValueError("the params must be an object or an array; leave them out where there are none")
            params = _read_value(params_raw)
            params_raw = _without_duplicates(params_raw, params)
            if isinstance(params, dict) and "_meta" in params:
                inner = _take_homing(params)
                if inner is not None:
                    inner_timeout_s, inner_key = _read_wishes(inner, "params._meta.homing")
                    timeout_s = inner_timeout_s if timeout_s is None else timeout_s
                    idempotency_key = inner_key if idempotency_key is None else idempotency_key
                    params_raw = _write(params)
    except ValidationError:  # the JSON is known to be good: this is `_number` or msgspec's own bound on integers
        return _refused(
            raw_id or NULL, "invalid_request", f"a number has more than {NUMBER_DIGITS_MAX} digits; send it as a string"
        )
    except ValueError as error:
        return _refused(raw_id or NULL, "invalid_request", str(error))
    return Call(raw_id or None, method, params, params_raw, timeout_s, idempotency_key)


def _without_duplicates(raw: bytes, params: object) -> bytes:
    """The text itself if no object in it has two members of one name, else one that says what was decoded: the last of them."""
    colons = raw.count(b":")
    if colons == 0 or (isinstance(params, dict) and colons == len(params)):  # each member brings one
        return raw
    written = _write(params)
    # A member that is gone took its colon along. Those in strings are the same on both sides, unless one was written as "\u003a".
    same = written.count(b":") == colons and b"\\u003" not in raw
    return raw if same else written


def _read_meta(raw: bytes) -> tuple[float | None, str | None]:
    meta = _read_value(raw)
    if not isinstance(meta, dict):
        raise ValueError("the member meta must be an object")
    if raw.count(b":") != len(meta) and _has_duplicates(raw, _read_members(raw)):
        raise ValueError("a member of meta comes more than once")
    return _read_wishes(meta, "meta")


def _take_homing(params: dict[str, object]) -> dict[str, object] | None:
    """Removes `_meta.homing`, and `_meta` if nothing else is in it. None if there was none."""
    meta = params["_meta"]
    if not isinstance(meta, dict) or "homing" not in meta:
        return None
    homing = meta.pop("homing")
    if not meta:
        del params["_meta"]
    if not isinstance(homing, dict):
        raise ValueError("the member _meta.homing of the params must be an object")
    return homing


def _read_wishes(members: dict[str, object], where: str) -> tuple[float | None, str | None]:
    timeout_s: float | None = None
    key: str | None = None
    if "timeout" in members:
        timeout = members["timeout"]
        if isinstance(timeout, bool) or not isinstance(timeout, int | float | Decimal) or timeout <= 0:
            raise ValueError(f"the timeout in {where} must be a number of seconds above zero")
        timeout_s = _within_range(timeout)
    if "idempotency_key" in members:
        given = members["idempotency_key"]
        if not isinstance(given, str) or len(given) > KEY_LENGTH_MAX or not _printable_key.fullmatch(given):
            raise ValueError(
                f"the idempotency_key in {where} must be a string of 1 to {KEY_LENGTH_MAX} printable ASCII characters"
            )
        key = given
    return timeout_s, key


def _within_range(seconds: float | Decimal) -> float:
    shortest, longest = TIMEOUT_RANGE_S
    return longest if seconds > longest else max(shortest, float(seconds))


def parse_timeout(text: str) -> float:
    """Seconds of a `Homing-Timeout` header, within `TIMEOUT_RANGE_S`. Raises ValueError if malformed, zero or negative."""
    text = text.strip(" \t")
    if _seconds.fullmatch(text) is None or not text.strip("0."):
        raise ValueError("must be a number of seconds above zero in decimal, like 30 or 0.5")
    return _within_range(float(text))


def parse_idempotency_key(text: str) -> str:
    """The key of an `Idempotency-Key` header, bare or quoted as an RFC 8941 string. Raises ValueError if it is malformed."""
    text = text.strip(" \t")
    quoted = _quoted_key.fullmatch(text)
    if quoted is not None:
        key = re.sub(r"\\(.)", r"\1", quoted[1])
    elif _bare_key.fullmatch(text):
        key = text
    else:
        key = ""
    if not 1 <= len(key) <= KEY_LENGTH_MAX:
        raise ValueError(f'must have 1 to {KEY_LENGTH_MAX} printable ASCII characters, in "quotes" if a comma is among them')
    return key


class _Data(Struct, omit_defaults=True, gc=False):
    """An error's `data`, in the order in which it is written."""

    reason: str
    executed: Verdict
    retry: Retry
    call_id: str
    retry_after_ms: int | None = None
    limit: str | None = None
    errors: tuple[ParamError, ...] = ()
    timeout_ms: int | None = None
    idempotency_key: str | None = None
    key_expires_ms: int | None = None
    attempts: tuple[Attempt, ...] = ()
    status: int | None = None
    body: Raw | UnsetType = UNSET
    body_truncated: bool = False
    detail: Raw | UnsetType = UNSET


class _Error(Struct, gc=False):
    code: int
    message: str
    data: _Data


def encode_answer(id: bytes, outcome: Outcome, call_id: str) -> bytes:
    """The response object for an outcome; its `result`, `body` and `detail` go in as they are, and must be JSON text."""
    if outcome.reason == "ok":
        return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, outcome.result or NULL)
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (id, encode_error(outcome, call_id))


def encode_error(outcome: Outcome, call_id: str) -> bytes:
    """The error object for an outcome that is not ok. Where no `retry` was filled in, it is that of a method that is `once`."""
    reason = outcome.reason
    message = outcome.message or (ROWS[reason].meaning if reason in ROWS else "The method answered with an error.")
    if not message.isascii():
        message = message.encode(errors="replace").decode()  # what an operating system said may hold lone surrogates (PEP 383)
    data = _Data(
        reason,
        outcome.executed,
        outcome.retry or retry_of(reason, outcome.executed, "once"),
        call_id,
        outcome.retry_after_ms,
        outcome.limit,
        outcome.errors,
        outcome.timeout_ms,
        outcome.idempotency_key,
        outcome.key_expires_ms,
        outcome.attempts,
        outcome.status,
        Raw(outcome.body) if outcome.body else UNSET,
        outcome.body_truncated,
        Raw(outcome.detail) if outcome.detail else UNSET,
    )
    return _write(_Error(code_of(outcome), message, data))


def encode_batch(answers: list[bytes]) -> bytes:
    """The array of a batch's answers; b"" if there are none, for then nothing is returned (section 6 of the specification)."""
    return b"[%b]" % b",".join(answers) if answers else b""
