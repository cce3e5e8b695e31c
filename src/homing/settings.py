"""The configuration as one tree of frozen Structs. Field names are the keys of `homing.toml`; units, defaults and reasons stand here once.

Durations are seconds, sizes are bytes, addresses are parsed, references are resolved. `homing.config` reads a file into this
tree; the reference page is made from it.
"""

from typing import Annotated, Literal, TypeAlias, TypeVar

from msgspec import Meta, Struct, field
from msgspec.structs import asdict, replace

from homing import forms
from homing.core import specs
from homing.errors import Effect, Verdict
from homing.forms import Address, Duration, DurationOrOff, Size
from homing.references import Secret, plain
from homing.units import format_duration

Pattern: TypeAlias = Annotated[str, forms.PATTERN]
HeaderName: TypeAlias = Annotated[str, forms.HEADER_NAME]
HeaderNameOrOff: TypeAlias = Annotated[str, forms.HEADER_NAME_OR_OFF]
FilePath: TypeAlias = Annotated[str, forms.FILE]
ServicePattern: TypeAlias = Annotated[str, forms.SERVICE_PATTERN]
Endpoint: TypeAlias = Annotated[str, forms.ENDPOINT]
SecretText: TypeAlias = Annotated[Secret, forms.SECRET]

DEADLINE_MIN_S = 0.1
DEADLINE_MAX_S = 24 * 86400.0  # what is left of one is a number of milliseconds on its way, up to 2^31
CREDIT_MAX = 100_000  # as many as a HEARTBEAT lists

_TEMPLATES = ("headers", "query", "body")

Section = TypeVar("Section", bound=Struct)


class _Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


# [gateway], [admin], [broker], [worker]


class DeadlineRange(_Section, frozen=True):
    default: Annotated[
        Duration, Meta(ge=DEADLINE_MIN_S, description="For methods that name none and callers who ask for none.")
    ] = 100.0
    max: Annotated[
        Duration, Meta(ge=DEADLINE_MIN_S, le=DEADLINE_MAX_S, description="Callers who ask for more are given this.")
    ] = 300.0

    def __post_init__(self) -> None:
        if self.default > self.max:
            raise ValueError(f"default, {format_duration(self.default)}, is above max, {format_duration(self.max)}")


class GatewayTimeout(_Section, frozen=True):
    header: Annotated[
        Duration, Meta(gt=0, description="From the first byte of a request to the end of its head; slow ones get 408.")
    ] = 10.0
    body: Annotated[Duration, Meta(gt=0, description="From the end of the head to the end of the body; slow ones get 408.")] = (
        30.0
    )
    idle: Annotated[Duration, Meta(gt=0, description="A kept connection without a request is closed after this.")] = 75.0
    write: Annotated[Duration, Meta(gt=0, description="A caller who reads nothing of its answer for this long is gone.")] = 10.0


class Drain(_Section, frozen=True):
    delay: Annotated[
        Duration, Meta(ge=0, description="After SIGTERM all goes on for this long, so that balancers see /readyz turn.")
    ] = 0.0
    timeout: Annotated[
        Duration, Meta(ge=0, description="Running calls may end within this; then the rest settle and the process exits.")
    ] = 120.0


class GatewayTls(_Section, frozen=True):
    cert: Annotated[FilePath, Meta(description='Certificate chain in PEM; `""` is plain HTTP.')] = ""
    key: Annotated[FilePath, Meta(description="Its private key in PEM, without a passphrase.")] = ""


class DialCurve(_Section, frozen=True):
    key: Annotated[
        FilePath,
        Meta(
            description='Our keys: a file that `homing keys curve NAME` wrote; `""` is no CURVE. '
            "A path of `ipc://` is guarded by its folder, and has none."
        ),
    ] = ""
    broker: Annotated[str, forms.CURVE_KEY_OR_OFF, Meta(description="The public key of the brokers.")] = ""


class ListenCurve(_Section, frozen=True):
    key: Annotated[
        FilePath,
        Meta(
            description='The broker\'s keys: a file that `homing keys curve NAME` wrote; `""` is no CURVE. `[peers.NAME]` are let in.'
        ),
    ] = ""


class Gateway(_Section, frozen=True):
    """Where callers come in, and what they may do there."""

    listen: Annotated[
        Address, forms.ADDRESS, Meta(description="Where to listen. `--listen` and `HOMING_LISTEN` override it.")
    ] = Address("127.0.0.1", 8370)
    deadline: Annotated[DeadlineRange, Meta(description="How long a call may take when nobody says, and at most.")] = (
        DeadlineRange()
    )
    body_max: Annotated[Size, Meta(ge=1, description="The largest request body; larger ones get 413.")] = 1024**2
    batch_length_max: Annotated[int, Meta(ge=1, description="The most calls in one batch.")] = 1000
    in_flight_max: Annotated[int, Meta(ge=1, description="The most calls open at once; more are `overloaded`.")] = 20_000
    held_bytes_max: Annotated[
        Size,
        Meta(ge=1, description="The most bytes of requests and answers this process holds for callers; more are `overloaded`."),
    ] = 512 * 1024**2
    header_bytes_max: Annotated[Size, Meta(ge=256, description="The largest head of a request; larger ones get 431.")] = 32 * 1024
    header_count_max: Annotated[int, Meta(ge=1, description="The most headers in a request; more get 431.")] = 100
    timeout: Annotated[GatewayTimeout, Meta(description="How long a caller may take over its part.")] = GatewayTimeout()
    heartbeat: Annotated[
        DurationOrOff,
        Meta(
            ge=0,
            description='Waiting callers get a space this often; `"20s"` suits balancers that cut sockets silent for 60 s, `""` is off.',
        ),
    ] = 0.0
    health: Annotated[bool, Meta(description="Answer `GET /livez` and `/readyz` here too, with the status only.")] = True
    drain: Annotated[Drain, Meta(description="How this process goes away.")] = Drain()
    anonymous: Annotated[tuple[Pattern, ...], Meta(description="Methods that need no API key.")] = ()
    origins: Annotated[
        tuple[Annotated[str, forms.ORIGIN], ...],
        Meta(description="Web origins whose pages may call; every other `Origin` gets 403."),
    ] = ()
    tls: Annotated[GatewayTls, Meta(description="TLS for callers.")] = GatewayTls()
    brokers: Annotated[
        tuple[Endpoint, ...],
        Meta(description="The brokers of `homing gateway`; `--broker` overrides them. `homing serve` has one inside."),
    ] = ()
    curve: Annotated[
        DialCurve, Meta(description="CURVE towards the brokers; a path of `ipc://` is guarded by its folder, and has none.")
    ] = DialCurve()
    insecure: Annotated[
        bool, Meta(description="Speak to other machines without CURVE. Whoever is on the way can read, forge and drop calls.")
    ] = False
    majordomo: Annotated[
        str,
        forms.SOCKET_ADDRESS,
        Meta(
            description='Where clients of Majordomo (MDP 0.1 and 0.2) come in, such as `"tcp://127.0.0.1:8373"`; `""` is nowhere.'
        ),
    ] = ""


class Admin(_Section, frozen=True):
    """Health, metrics and the dashboard. It has no authentication: keep it where only operators reach it."""

    listen: Annotated[Address, forms.ADDRESS, Meta(description="Where to listen.")] = Address("127.0.0.1", 8371)


class Broker(_Section, frozen=True):
    """The queues between gateway and workers."""

    listen: Annotated[
        str,
        forms.SOCKET_ADDRESS,
        Meta(description='`"tcp://127.0.0.1:8372"` opens it to other processes; `""` keeps it inside this one.'),
    ] = ""
    queue_length_max: Annotated[
        int, Meta(ge=1, description="The most calls that wait for one service; more are `overloaded`.")
    ] = 10_000
    held_bytes_max: Annotated[Size, Meta(ge=1, description="The most bytes of waiting calls this process holds.")] = 512 * 1024**2
    frame_bytes_max: Annotated[Size, Meta(ge=1024, description="The largest message between processes.")] = 16 * 1024**2
    no_worker_after: Annotated[
        Duration, Meta(ge=0, description="A call is `no_worker` once nobody has offered its service for this long.")
    ] = 5.0
    admin: Annotated[
        Address | None,
        forms.ADDRESS_OR_OFF,
        Meta(description='Where `homing broker` has its health and metrics, such as `"127.0.0.1:8374"`; `""` is nowhere.'),
    ] = None
    curve: Annotated[ListenCurve, Meta(description="CURVE for gateways and workers.")] = ListenCurve()
    insecure: Annotated[
        bool, Meta(description="Listen to other machines without CURVE. Whoever reaches the port can call, serve and listen in.")
    ] = False


class WorkerDrain(_Section, frozen=True):
    delay: Annotated[Duration, Meta(ge=0, description="After SIGTERM all goes on for this long.")] = 0.0
    timeout: Annotated[
        Duration, Meta(ge=0, description="Running calls may end within this; then the rest are given up and the process exits.")
    ] = 120.0


class Worker(_Section, frozen=True):
    """`homing worker`: a process that asks the providers. The one inside `homing serve` heeds only `outcomes_held_bytes_max`."""

    brokers: Annotated[tuple[Endpoint, ...], Meta(description="The brokers; `--broker` overrides them.")] = ()
    services: Annotated[
        tuple[Annotated[str, forms.NAME], ...],
        Meta(description="What it serves; when left out, every service that a method with a provider has."),
    ] = ()
    credit: Annotated[int, Meta(ge=1, le=CREDIT_MAX, description="The most calls of one service at once, over all brokers.")] = (
        100
    )
    outcomes_held_bytes_max: Annotated[
        Size, Meta(ge=1, description="The most bytes of outcomes held until their gateways have seen them.")
    ] = 256 * 1024**2
    drain: Annotated[WorkerDrain, Meta(description="How this process goes away.")] = WorkerDrain()
    admin: Annotated[
        Address | None,
        forms.ADDRESS_OR_OFF,
        Meta(description='Where it has its health and metrics, such as `"127.0.0.1:8375"`; `""` is nowhere.'),
    ] = None
    curve: Annotated[
        DialCurve, Meta(description="CURVE towards the brokers; a path of `ipc://` is guarded by its folder, and has none.")
    ] = DialCurve()
    insecure: Annotated[
        bool, Meta(description="Speak to other machines without CURVE. Whoever is on the way can read, forge and drop calls.")
    ] = False


# [peers.NAME]


class Peer(_Section, frozen=True):
    """A process that a broker with CURVE lets in, by its key, and what it may do there. Without an entry it is not let in."""

    public_key: Annotated[str, forms.CURVE_KEY, Meta(description="As `homing keys curve NAME` printed it.")]
    serve: Annotated[
        tuple[ServicePattern, ...], Meta(description="Services it may serve: exact names, or beginnings that end in `*`.")
    ] = ()
    call: Annotated[tuple[ServicePattern, ...], Meta(description="Services it may call, likewise.")] = ()
    principal: Annotated[
        str,
        forms.NAME_OR_OFF,
        Meta(
            description='In whose name alone it may call; `""` is anybody\'s, as a gateway does that knows its callers by itself.'
        ),
    ] = ""


# [principals.NAME]


class Rate(_Section, frozen=True):
    limit: Annotated[int, Meta(ge=1, description="This many calls …")]
    per: Annotated[Duration, Meta(gt=0, description="… in this time, evenly.")] = 1.0
    burst: Annotated[int | None, Meta(ge=1, description="So many at once after a quiet time; when left out, `limit`.")] = None

    @property
    def burst_or_limit(self) -> int:
        """The burst that applies."""
        return self.limit if self.burst is None else self.burst


class Principal(_Section, frozen=True):
    """Somebody who may call. `homing keys new NAME` prints such a table, and the key once."""

    api_key_hash: Annotated[
        tuple[str, ...],
        forms.HASHES,
        Meta(description="`sha256:` and the hex digest of the whole key text; a list of two while rotating."),
    ]
    methods: Annotated[
        tuple[Pattern, ...], Meta(description="What it may call: exact names, or beginnings that end in `*`.")
    ] = ()
    rate: Annotated[Rate | None, Meta(description="How often it may call; `rate_limited` beyond. None when left out.")] = None
    in_flight_max: Annotated[
        int | None, Meta(ge=1, description="How many of its calls may be open at once; `overloaded` beyond. None when left out.")
    ] = None


# [methods."NAME"]


class AnswerRow(_Section, frozen=True):
    """What an answer of the provider means. The first row that matches wins; a method's own rows come first, the built-in ones last."""

    when: Annotated[str, Meta(description="JMESPath over `{status, headers, body}`; header names are lower-case.")]
    is_: Annotated[specs.AnswerKind, Meta(description="What such an answer is.")] = field(name="is")
    executed: Annotated[
        Verdict | None,
        Meta(description="What it proves; when left out: ok yes, refused, throttled and denied no, failed unknown."),
    ] = None
    retry: Annotated[bool | None, Meta(description="`false`: asking again is no use.")] = None
    message: Annotated[str | None, Meta(description="JMESPath for the sentence that callers are told.")] = None


class Idempotency(_Section, frozen=True):
    """How the provider takes an idempotency key."""

    header: Annotated[
        HeaderNameOrOff, Meta(description='The header that carries it; `""` if a body or query has `=call.key` instead.')
    ] = ""
    lifetime: Annotated[
        Duration,
        Meta(gt=0, description="How long the provider remembers a key. What it may have done is not asked again after it."),
    ] = 86400.0
    required: Annotated[bool, Meta(description="Callers must bring a key of their own.")] = False
    scope: Annotated[
        specs.KeyScope,
        Meta(description="`principal`: two principals' keys never meet. `verbatim`: the key as the caller gave it."),
    ] = "principal"


class Lookup(_Section, frozen=True):
    """The request that asks the provider whether a call happened, after an `unknown`.

    One with neither `call.key` nor `call.id` in it asks by params alone. If none of those is there it is not made, for it could find
    what another call did.
    """

    request: Annotated[str, Meta(description='Method and path (RFC 6570), such as `"GET /charges"`.')]
    headers: Annotated[dict[HeaderName, object], Meta(description="As in a method.")] = {}
    query: Annotated[dict[str, object], Meta(description="As in a method.")] = {}
    body: Annotated[object | None, Meta(description="As in a method, but there is no default body.")] = None
    found: Annotated[
        str,
        Meta(
            description="JMESPath for the result; null, false, empty or 404 is not found, nor what a row of the provider says is not ok."
        ),
    ] = "body"
    reserve: Annotated[Duration, Meta(gt=0, description="Kept back of the deadline for it, at most half of what remains.")] = 5.0


class _MethodKeys(_Section, frozen=True):
    provider: Annotated[
        str | None, Meta(description="Whom it asks. A method without one goes to the workers of its `service`.")
    ] = None
    service: Annotated[
        str | None, forms.NAME_OR_OFF, Meta(description="What it is routed by; when left out, the provider's name.")
    ] = None
    summary: Annotated[str, forms.SUMMARY, Meta(description="One line for people.")] = ""
    deadline: Annotated[
        Duration | None,
        Meta(ge=DEADLINE_MIN_S, description="For callers who ask for none; when left out, `gateway.deadline.default`."),
    ] = None
    effect: Annotated[
        Effect, Meta(description="`once` must not happen twice, `keyed` the provider knows a key again, `safe` may be repeated.")
    ] = "once"
    idempotency_key: Annotated[Idempotency | None, Meta(description="How the provider takes an idempotency key.")] = None
    notifications: Annotated[bool, Meta(description="Notifications are taken even though the effect is `once`.")] = False
    positional: Annotated[tuple[str, ...], Meta(description="Names for params that come as an array, in order.")] = ()
    params: Annotated[
        dict[str, object] | None,
        forms.SCHEMA,
        Meta(description='JSON Schema 2020-12; `type = "object"` is implied. Without one anything goes.'),
    ] = None
    request: Annotated[
        str | None, Meta(description='Method and path (RFC 6570), such as `"POST /accounts/{account}/charges{?expand}"`.')
    ] = None
    headers: Annotated[
        dict[HeaderName, object],
        Meta(description="Strings that begin with `=` are JMESPath over `{params, call}`; `==` begins a text with `=`."),
    ] = {}
    query: Annotated[dict[str, object], Meta(description="Likewise; null drops the member.")] = {}
    body: Annotated[
        object | None,
        Meta(description="Likewise, at any depth; when left out, the params that URL, query and headers did not use."),
    ] = None
    encode: Annotated[
        str,
        forms.ENCODE,
        Meta(description="How the body is written: `json`, `form`, `text`, `none` or `python:module:function`."),
    ] = "json"
    decode: Annotated[
        str,
        forms.DECODE,
        Meta(description="How the answer's body is read: `json`, `text`, `base64` or `python:module:function`."),
    ] = "json"
    result: Annotated[
        str | None, Meta(description="JMESPath over `{status, headers, body}`; when left out, the body as it came.")
    ] = None
    answers: Annotated[
        tuple[AnswerRow, ...], Meta(description="What its answers mean, before the provider's rows are asked.")
    ] = ()
    lookup: Annotated[Lookup | None, Meta(description="How to find out whether it happened.")] = None


class Method(_MethodKeys, frozen=True):
    """What callers can call. The name has a dot as a rule, so the quotes matter."""


class Defaults(_MethodKeys, frozen=True):
    """Any key of a method. Tables are merged key by key, all else is taken whole."""


# [providers.NAME]


class BearerAuth(_Section, frozen=True, tag_field="type", tag="bearer"):
    """`Authorization: Bearer TOKEN`."""

    token: Annotated[SecretText, Meta(description="The token.")]


class BasicAuth(_Section, frozen=True, tag_field="type", tag="basic"):
    """`Authorization: Basic …`."""

    username: Annotated[str, Meta(description="Without a colon.")]
    password: Annotated[SecretText, Meta(description="The password.")]

    def __post_init__(self) -> None:
        if ":" in self.username:
            raise ValueError("a username for basic authentication has no colon")


class HeaderAuth(_Section, frozen=True, tag_field="type", tag="header"):
    """A header of the provider's own."""

    name: Annotated[HeaderName, Meta(description="The header's name.")]
    value: Annotated[SecretText, Meta(description="Its value.")]


class QueryAuth(_Section, frozen=True, tag_field="type", tag="query"):
    """A member of the query."""

    name: Annotated[str, forms.NAME, Meta(description="The member's name.")]
    value: Annotated[SecretText, Meta(description="Its value.")]


class OAuth2Auth(_Section, frozen=True, tag_field="type", tag="oauth2_client_credentials"):
    """A token fetched with client credentials (RFC 6749 section 4.4), once for all calls that wait, and renewed early.

    The endpoint is reached as the provider is: its `proxy`, `tls`, `timeout.connect` and `response_max` hold there too. It has 10 s.
    """

    token_url: Annotated[str, forms.TOKEN_URL, Meta(description="Where tokens are fetched.")]
    client_id: Annotated[str, forms.NAME, Meta(description="The client's name.")]
    client_secret: Annotated[SecretText, Meta(description="Its secret.")]
    scopes: Annotated[tuple[str, ...], Meta(description="What to ask for.")] = ()


Auth: TypeAlias = BearerAuth | BasicAuth | HeaderAuth | QueryAuth | OAuth2Auth


class ProviderTimeout(_Section, frozen=True):
    connect: Annotated[Duration, Meta(gt=0, description="For DNS with TCP, and again for TLS.")] = 3.0
    attempt: Annotated[
        Duration | None,
        Meta(gt=0, description="For one request as a whole, body included, a lookup too; when left out, the deadline."),
    ] = None


class RetryPolicy(_Section, frozen=True):
    attempts_max: Annotated[int, Meta(ge=1, le=10, description="The most requests for one call; 1 never asks again.")] = 3


class BreakerPolicy(_Section, frozen=True):
    window: Annotated[Duration, Meta(gt=0, description="How far back answers count.")] = 30.0
    calls_min: Annotated[int, Meta(ge=1, description="It never opens over fewer calls than this.")] = 20
    failure_ratio: Annotated[
        float, Meta(gt=0, le=1, description="It opens when this share of them was a fault of the provider.")
    ] = 0.5
    open_for: Annotated[
        Duration, Meta(gt=0, description="Then calls are `circuit_open` for this long, before it is tried again.")
    ] = 15.0


class ProviderTls(_Section, frozen=True):
    ca: Annotated[FilePath, Meta(description='Certificates to trust, in PEM; `""` is the system\'s.')] = ""
    client_cert: Annotated[FilePath, Meta(description="Our own certificate chain in PEM, where the provider asks for one.")] = ""
    client_key: Annotated[FilePath, Meta(description='Its private key in PEM; `""` if it stands in the same file.')] = ""
    min_version: Annotated[Literal["1.2", "1.3"], Meta(description="The oldest TLS to speak.")] = "1.2"

    def __post_init__(self) -> None:
        if self.client_key and not self.client_cert:
            raise ValueError("client_key stands without client_cert")


class Provider(_Section, frozen=True):
    """A remote HTTP service, and how it is spoken to."""

    base_url: Annotated[str, forms.BASE_URL, Meta(description="What every request's path is appended to.")]
    auth: Annotated[Auth | None, Meta(description="Our credentials there.")] = None
    headers: Annotated[dict[HeaderName, object], Meta(description="Sent with every request; values as in a method.")] = {}
    timeout: Annotated[ProviderTimeout, Meta(description="How long the provider may take.")] = ProviderTimeout()
    in_flight_max: Annotated[int, Meta(ge=1, description="The most requests at once, per worker process.")] = 64
    rate: Annotated[
        Rate | None, Meta(description="How often to ask; calls wait for their turn if it comes in time. None when left out.")
    ] = None
    retry: Annotated[RetryPolicy, Meta(description="How often to ask again where that is allowed.")] = RetryPolicy()
    breaker: Annotated[BreakerPolicy, Meta(description="When to leave the provider alone.")] = BreakerPolicy()
    response_max: Annotated[Size, Meta(ge=1, description="The largest answer, decompressed.")] = 8 * 1024**2
    error_body_max: Annotated[Size, Meta(ge=0, description="How much of a refusal's body callers are shown.")] = 16 * 1024
    request_id_header: Annotated[HeaderNameOrOff, Meta(description="The provider's request id, copied into `attempts`.")] = ""
    call_id_header: Annotated[HeaderNameOrOff, Meta(description="Our call id is sent under this name.")] = ""
    proxy: Annotated[str, forms.PROXY, Meta(description="An HTTP proxy to CONNECT through.")] = ""
    tls: Annotated[ProviderTls, Meta(description="TLS towards the provider.")] = ProviderTls()
    answers: Annotated[tuple[AnswerRow, ...], Meta(description="What its answers mean, where the built-in rows are wrong.")] = ()
    defaults: Annotated[
        Defaults, Meta(description="Any key of a method, for each of this provider's methods that does not set it.")
    ] = Defaults()


class Config(_Section, frozen=True):
    """The whole file."""

    include: Annotated[
        tuple[str, ...], Meta(description="More files, as paths or patterns. It stands before the first table.")
    ] = ()
    gateway: Gateway = Gateway()
    admin: Admin = Admin()
    broker: Broker = Broker()
    worker: Worker = Worker()
    peers: dict[Annotated[str, forms.NAME], Peer] = {}
    principals: dict[Annotated[str, forms.NAME], Principal] = {}
    providers: dict[Annotated[str, forms.NAME], Provider] = {}
    methods: dict[Annotated[str, forms.METHOD_NAME], Method] = {}


# For the core


def method_spec(name: str, method: Method) -> specs.MethodSpec:
    """A method as `homing.core.methods` compiles it."""
    given = asdict(_plain(method))
    given["answers"] = _answer_rows(method.answers)
    given["idempotency_key"] = (
        None if method.idempotency_key is None else specs.IdempotencySpec(**asdict(_plain(method.idempotency_key)))
    )
    given["lookup"] = None if method.lookup is None else specs.LookupSpec(**asdict(_plain(method.lookup)))
    return specs.MethodSpec(name=name, **given)


def provider_spec(name: str, provider: Provider) -> specs.ProviderSpec:
    """A provider as the methods that ask it are compiled with."""
    given = asdict(_plain(provider))
    shared = {key: given[key] for key in specs.ProviderSpec.__struct_fields__ if key in given}
    return specs.ProviderSpec(name=name, **{**shared, "answers": _answer_rows(provider.answers)})


def _answer_rows(rows: tuple[AnswerRow, ...]) -> tuple[specs.AnswerRow, ...]:
    return tuple(specs.AnswerRow(**asdict(_plain(row))) for row in rows)


def _plain(section: Section) -> Section:
    """Without what only the configuration has need of: strings that hide what they refer to."""
    return replace(section, **{key: plain(value, template=key in _TEMPLATES) for key, value in asdict(section).items()})
