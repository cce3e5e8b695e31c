"""What the configuration says about methods and providers, as far as calls are mapped: plain values, not yet compiled.

Field names are the keys of the TOML file. Durations are seconds, sizes are bytes, references (`env:`, `file:`) are already resolved,
a provider's `defaults` are already merged into its methods. `homing.core.methods` compiles them and finds what is wrong.
"""

from typing import Literal, TypeAlias

import msgspec

from homing.errors import Effect, Verdict

AnswerKind: TypeAlias = Literal["ok", "refused", "throttled", "denied", "failed"]
KeyScope: TypeAlias = Literal["principal", "verbatim"]


class Problem(msgspec.Struct, frozen=True):
    """One thing that `check` found. `path` is the dotted path of the key in the TOML file; a warning changes no exit code."""

    path: str
    message: str
    warning: bool = False


class MappingError(Exception):
    """The params of one call cannot be made into a request: answered with -32602, `executed` no.

    `path` is a JSON Pointer into the params, "" where no single one is to blame.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.path = path


class AnswerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A row of `answers`: `when` and `message` are JMESPath over `{status, headers, body}`; the first row that matches wins.

    `executed` None is the word's own verdict (ok yes, refused, throttled and denied no, failed unknown). `retry` False means that
    asking again is no use.
    """

    when: str
    is_: AnswerKind = msgspec.field(name="is")
    executed: Verdict | None = None
    retry: bool | None = None
    message: str | None = None


class IdempotencySpec(msgspec.Struct, frozen=True, kw_only=True):
    """How the provider takes an idempotency key. `header` "": none is sent by itself (`=call.key` may stand in a body or a query)."""

    header: str = ""
    lifetime: float = 86400.0  # seconds the provider remembers a key
    required: bool = False  # callers must bring their own
    scope: KeyScope = "principal"


class LookupSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The request that asks a provider whether a call happened. It sends no default body."""

    request: str
    headers: dict[str, object] = {}
    query: dict[str, object] = {}
    body: object | None = None
    found: str = "body"  # JMESPath over {status, headers, body}: the result, or null
    reserve: float = 5.0  # seconds kept back from the exchange


class MethodSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One `[methods."…"]` table. Without a `provider` its params go to `service` as they are."""

    name: str
    provider: str | None = None
    service: str | None = None  # None: the provider's name
    summary: str = ""
    deadline: float | None = None  # seconds; None: the gateway's default
    effect: Effect = "once"
    idempotency_key: IdempotencySpec | None = None
    notifications: bool = False
    positional: tuple[str, ...] = ()
    params: object | None = None  # JSON Schema 2020-12, decoded
    request: str | None = None  # "POST /path{?a,b}"
    headers: dict[str, object] = {}
    query: dict[str, object] = {}
    body: object | None = None  # None: the default body
    encode: str = "json"  # json | form | text | none | python:module:function
    decode: str = "json"  # json | text | base64 | python:module:function
    result: str | None = None  # JMESPath over {status, headers, body}; None: the body as it is
    answers: tuple[AnswerRow, ...] = ()
    lookup: LookupSpec | None = None


class ProviderSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a provider's methods take from its `[providers.…]` table."""

    name: str
    base_url: str
    headers: dict[str, object] = {}
    answers: tuple[AnswerRow, ...] = ()
    error_body_max: int = 16384  # bytes of a refusal's body that go into the answer
    call_id_header: str = ""
    attempts_max: int = 3  # requests for one call, the first and the retries


class CallInfo(msgspec.Struct, frozen=True, gc=False):
    """What `call` is in JMESPath: `id`, `key`, `principal`, and in headers only `attempt` (1 is the first)."""

    id: str
    key: str = ""
    principal: str = ""
    attempt: int = 1
