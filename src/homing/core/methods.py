"""Methods: what callers may say (JSON Schema), what the provider is sent, and what its answers mean.

Everything is compiled once, and what is wrong is found then:

method, problems = compile_method(MethodSpec(...), ProviderSpec(...))
params, errors = method.validate(call.params)
request = method.render(params, call.params_raw, CallInfo(id=call_id, key=method.provider_key(principal, key)))
outcome = method.interpret(response, wall_now)
"""

import base64
import hashlib
from typing import Final, cast
from urllib.parse import urlsplit

import jsonschema_rs

from homing.core import uri
from homing.core.answers import Answers, Row, compile_response, compile_rows
from homing.core.bodies import Decoder
from homing.core.effort import Effort, TooMuch
from homing.core.exchange import HttpRequest, HttpResponse
from homing.core.jsonrpc import encode_value
from homing.core.mapping import Expression
from homing.core.rendering import WITHOUT_BODY, Parts, Rendering, RequestSpec, check_header_name, compile_parts
from homing.core.scalars import pointer
from homing.core.schemas import Validator, errors_of, prepare
from homing.core.specs import CallInfo, IdempotencySpec, MappingError, MethodSpec, Problem, ProviderSpec
from homing.core.traps import did_you_mean, is_closed, properties, undeclared
from homing.core.values import Report
from homing.errors import Outcome, ParamError, failure

ATTEMPTS_MAX: Final = 3
"""Of a call that goes to workers of a service."""

_TYPES = ("string", "integer", "number", "boolean", "object", "array", "null")  # of JSON Schema
_NOT_POSITIONAL = "must be an object: this method gives no order for an array"


class Method:
    """One compiled method. Without a provider its params go to `service` as they are, and only `validate` is for it."""

    __slots__ = (
        "_answers", "_effort", "_found", "_lookup", "_rendering", "_validator", "attempts_max", "deadline_s", "effect", "has_lookup",
        "key_header", "key_lifetime_s", "key_required", "key_scope", "name", "needs_params", "notifications", "params_schema", "positional",
        "provider", "reserve_s", "service", "summary", "uses_key",
    )  # fmt: skip

    def __init__(
        self,
        spec: MethodSpec,
        validator: Validator | None,
        effort: Effort | None,
        rendering: Rendering | None,
        answers: Answers | None,
        lookup: Rendering | None,
        found: Expression | None,
        attempts_max: int,
    ) -> None:
        self.name = spec.name
        self.provider = spec.provider
        self.service = spec.service or spec.provider or ""
        self.summary = spec.summary
        self.effect = spec.effect
        self.deadline_s = spec.deadline  # None: the gateway's default
        self.notifications = spec.notifications or spec.effect != "once"
        self.positional = spec.positional
        self.params_schema = spec.params
        self.attempts_max = attempts_max
        self.has_lookup = lookup is not None
        self.reserve_s = spec.lookup.reserve if spec.lookup else 0.0
        key = _key_spec(spec)
        self.key_header = key.header or None
        self.key_lifetime_s = key.lifetime
        self.key_required = key.required
        self.key_scope = key.scope
        self.needs_params = rendering is None or rendering.needs_params  # to render: else their text will do
        self.uses_key = rendering is None or rendering.uses_key
        self._validator = validator
        self._effort = effort
        self._rendering = rendering
        self._answers = answers
        self._lookup = lookup
        self._found = found

    @property
    def evaluations_failed(self) -> int:
        """How many expressions over answers could not be evaluated so far; their rows did not match."""
        return self._answers.evaluations_failed if self._answers else 0

    def validate(self, params: object) -> tuple[dict[str, object], tuple[ParamError, ...]]:
        """Return params as an object, an array by `positional`, and what is wrong with them as they came, at most 20 things."""
        named = params
        if not isinstance(named, dict):
            try:
                named = self.by_name(params)
            except MappingError as error:
                return {}, (ParamError(error.path, error.message),)
        if self._validator is None or self._validator.is_valid(named):
            return named, ()
        assert self._effort is not None, "it comes with a validator"
        errors = errors_of(self._validator, named, self._effort.may_list)
        return named, self.by_position(errors) if isinstance(params, list) else errors

    def by_position(self, errors: tuple[ParamError, ...]) -> tuple[ParamError, ...]:
        """Return errors whose paths lead into the array that the params came as: who sent positions has no names."""
        places = {pointer((name,)): f"/{index}" for index, name in enumerate(self.positional)}
        found = []
        for error in errors:
            end = error.path.find("/", 1)
            first, rest = (error.path, "") if end < 0 else (error.path[:end], error.path[end:])
            found.append(ParamError(places.get(first, first) + rest, error.message))
        return tuple(found)

    def by_name(self, params: object) -> dict[str, object]:
        """Return params as an object: absent ones are empty, an array is named by `positional`. Raises MappingError."""
        if isinstance(params, dict):
            return params
        if params is None:
            return {}
        if not isinstance(params, list) or not self.positional:
            raise MappingError(_NOT_POSITIONAL)
        if len(params) > len(self.positional):
            names = ", ".join(self.positional)
            raise MappingError(f"has {len(params)} elements, but the method takes {len(self.positional)} in this order: {names}")
        return dict(zip(self.positional, params, strict=False))

    def provider_key(self, principal: str, key: str) -> str:
        """Return the idempotency key as the provider gets it, `call.key`, from the caller's own or the call id."""
        if self.key_scope == "verbatim":
            return key
        digest = hashlib.sha256(f"{principal}\0{self.name}\0{key}".encode()).digest()
        return base64.urlsafe_b64encode(digest)[:32].decode()

    def render(self, params: object, params_raw: bytes, call: CallInfo) -> HttpRequest:
        """Return the request to the provider. `params_raw` is the JSON text that `params` was decoded from.

        Raises MappingError: the params fit the schema, but no request (-32602, not executed).
        """
        assert self._rendering is not None, "a method without a provider makes no requests"
        return self._rendering.render(self.by_name(params), params_raw, call)

    def render_untouched(self, params_raw: bytes) -> HttpRequest | None:
        """Return the request if nothing of it but the body differs from call to call, and that is the text itself; else None."""
        assert self._rendering is not None, "a method without a provider makes no requests"
        return self._rendering.untouched(params_raw)

    def render_lookup(self, params: object, call: CallInfo) -> HttpRequest:
        """Return the request that asks whether the call happened. Raises MappingError."""
        assert self._lookup is not None, "only where has_lookup"
        return self._lookup.render(self.by_name(params), b"", call)

    def interpret(self, response: HttpResponse, wall_now: float) -> Outcome:
        """Return what a complete response means; `wall_now` is Unix time, for dates in Retry-After. It lists no attempts."""
        assert self._answers is not None
        return self._answers.interpret(response, wall_now)

    def explain(self, response: HttpResponse, wall_now: float) -> tuple[str, Outcome]:
        """Return the row that decided, in words, and the outcome."""
        assert self._answers is not None
        return self._answers.explain(response, wall_now)

    def interpret_lookup(self, response: HttpResponse) -> bytes | None:
        """Return what the lookup found, as JSON text; None: it did not find the call, which stays unknown."""
        assert self._answers is not None
        assert self._found is not None
        return self._answers.found(response, self._found)


def invalid_params(errors: tuple[ParamError, ...]) -> Outcome:
    """The answer to params in which `validate` found these: asking again is no use, and nothing was executed."""
    message = f"{len(errors)} things are wrong with the params; `errors` lists them."
    if len(errors) == 1:
        message = f"{errors[0].path or 'params'}: {errors[0].message}"
    return failure("invalid_params", message, executed="no", errors=errors, again=False)


def check_provider(spec: ProviderSpec) -> list[Problem]:
    """Say what is wrong with what a provider gives to its methods; `compile_method` says it for a provider that has some."""
    problems: list[Problem] = []
    report = Report("providers", problems).at(spec.name)
    prefix = _compile_provider(spec, report)[0]
    _compile_request(MethodSpec(name="", request="GET /"), spec, prefix, report, report)
    return problems


def compile_method(
    spec: MethodSpec, provider: ProviderSpec | None = None, *, doubtful: bool = False
) -> tuple[Method | None, list[Problem]]:
    """Compile a method. Without one, the list holds at least one problem that is no warning.

    A `spec.provider` without `provider` is for the caller to report: it names nothing that is known. Then, or if the spec is
    `doubtful`, as some of it stands in for mistakes that have been reported, whether its parts go together is not looked at.
    """
    problems: list[Problem] = []
    report = Report("methods", problems).at(spec.name)
    schema, validator, effort = _compile_schema(spec, report.at("params"))
    _check_positional(spec, schema, report.at("positional"))
    if spec.provider is None:
        _check_service(spec, report)
        method = Method(spec, validator, effort, None, None, None, None, ATTEMPTS_MAX)
        return (method if _is_right(problems) else None), problems
    known = provider is not None
    if provider is None:
        provider = ProviderSpec(name=spec.provider, base_url="https://unknown.invalid")
    at_provider = Report("providers", problems).at(provider.name)
    prefix, shared = _compile_provider(provider, at_provider)
    if spec.request is None:
        report.at("request").problem('which request is it? Such as request = "POST /charges"')
    request, parts = _compile_request(spec, provider, prefix, report, at_provider, schema)
    if known and not doubtful:
        _check_leftovers(spec, parts, schema, report)
        _check_effect(spec, parts, report)
    rows = compile_rows(spec.answers, report.at("answers")) + shared
    result = None if spec.result is None else compile_response(spec.result, report.at("result"))
    lookup, found = _compile_lookup(spec, provider, prefix, report, at_provider, schema)
    try:
        decoder = Decoder(spec.decode)
    except ValueError as error:
        report.at("decode").problem(str(error))
        return None, problems
    if not known or doubtful or not _is_right(problems):
        return None, problems
    rendering = Rendering(request, parts)
    answers = Answers(provider.name, rows, decoder, result, spec.effect, provider.error_body_max, shared=shared)
    return Method(spec, validator, effort, rendering, answers, lookup, found, provider.attempts_max), problems


def _is_right(problems: list[Problem]) -> bool:
    return all(problem.warning for problem in problems)


def _key_spec(spec: MethodSpec) -> IdempotencySpec:
    """What holds of idempotency keys: nothing for `safe`, which may have it from its provider's defaults."""
    return IdempotencySpec() if spec.idempotency_key is None or spec.effect == "safe" else spec.idempotency_key


def _compile_schema(spec: MethodSpec, report: Report) -> tuple[dict[str, object], Validator, Effort] | tuple[None, None, None]:
    if spec.params is None:
        report.warn("without a schema anything goes: write what the params are")
        return None, None, None
    schema = prepare(spec.params, report)
    if schema is None:
        return None, None, None
    try:
        effort = Effort(schema)  # first: to compile what multiplies may take for ever, too
    except TooMuch as error:
        report.problem(str(error))
        return None, None, None
    try:
        validator = _validator(schema, strict=True)
    except jsonschema_rs.ValidationError as strict:
        try:
            validator = _validator(schema, strict=False)
        except jsonschema_rs.ValidationError as error:
            _blame(report, error).problem(_why(error))
            return None, None, None
        _blame(report, strict).warn(f"{_one_line(strict.message)}: nothing is checked by it")
    except ValueError as error:
        report.problem(f"{_one_line(str(error))}: it has no place in JSON")
        return None, None, None
    return schema, cast(Validator, validator), effort


def _validator(schema: dict[str, object], *, strict: bool) -> jsonschema_rs.Draft202012Validator:
    """Compile a schema, never fetching anything: not from the network, not from a file."""
    return jsonschema_rs.Draft202012Validator(schema, validate_formats=True, ignore_unknown_formats=not strict, offline=True)


def _blame(report: Report, error: jsonschema_rs.ValidationError) -> Report:
    for step in error.instance_path:
        report = report.at(step)
    return report


def _why(error: jsonschema_rs.ValidationError) -> str:
    """What is wrong with a schema; of the two usual mistakes with types, in words of our own."""
    found, kept = error.instance, list(error.schema_path)
    if kept[-2:] == ["type", "anyOf"]:
        close = did_you_mean(found, _TYPES) if isinstance(found, str) else ""
        return f"found {_one_line(encode_value(found).decode())}, expected {', '.join(_TYPES)}, or a list of these{close}"
    if kept == ["type"] and found in _TYPES:
        return f'found "{found}", expected a schema: write type = "{found}" below it'
    return _one_line(error.message)


def _one_line(text: str) -> str:
    line = text.partition("\n")[0].partition(". Adjust configuration")[0]
    if " is not present in a registry" in line:
        line = f"{line.partition(' is not present')[0]} is not in this schema, and nothing is fetched: put it under $defs"
    return line if len(line) <= 300 else f"{line[:300]}…"


def _check_positional(spec: MethodSpec, schema: dict[str, object] | None, report: Report) -> None:
    if len(set(spec.positional)) < len(spec.positional):
        report.problem("a name stands in it twice")
    declared = properties(schema)
    for index, name in enumerate(spec.positional):
        if is_closed(schema) and name not in declared:
            report.at(index).problem(undeclared(name, declared))


def _check_service(spec: MethodSpec, report: Report) -> None:
    """A method that is no HTTP request: what only requests have has no place in it."""
    if not spec.service:
        report.problem("who answers it? Name a provider, or the service of a worker")
    plain = MethodSpec(name=spec.name)
    for key in ("request", "headers", "query", "body", "encode", "decode", "result", "answers", "lookup"):
        if getattr(spec, key) != getattr(plain, key):
            report.at(key).problem("this is for methods with a provider: its service gets the params as they are")
    if spec.idempotency_key is not None and spec.idempotency_key.header:
        report.at("idempotency_key").at("header").warn("it has no effect: this is for methods with a provider")


def _compile_provider(spec: ProviderSpec, report: Report) -> tuple[str, tuple[Row, ...]]:
    """Return the path of base_url, without a slash at its end, and the provider's rows."""
    prefix = ""
    at = report.at("base_url")
    try:
        url = urlsplit(spec.base_url)
        sound = url.scheme in {"http", "https"} and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        sound = False
    else:
        if sound and (url.query or url.fragment or url.username is not None or "?" in spec.base_url or "#" in spec.base_url):
            at.problem("it is scheme, host and path: credentials go into `auth`, a query into each method's `query`")
        elif sound and url.path.rstrip("/"):
            template, problems = uri.parse(url.path.removesuffix("/"))
            if template is not None and template.constant is None:
                at.problem("it takes no variables: they go into each method's `request`")
            elif template is not None:
                prefix = template.constant or ""
            for message in problems:
                at.problem(message)
    if not sound:
        at.problem('expected http:// or https:// and a host, as in "https://api.example.com/v2"')
    wrong = check_header_name(spec.call_id_header) if spec.call_id_header else None
    if wrong:
        report.at("call_id_header").problem(wrong)
    return prefix, compile_rows(spec.answers, report.at("answers"))


def _compile_request(
    spec: MethodSpec, provider: ProviderSpec, prefix: str, report: Report, at_provider: Report, schema: object = None
) -> tuple[RequestSpec, Parts]:
    key_header = _key_spec(spec).header
    wrong = check_header_name(key_header) if key_header else None
    if wrong:
        report.at("idempotency_key").at("header").problem(wrong)
    request = RequestSpec(
        request=spec.request,
        prefix=prefix,
        headers=spec.headers,
        provider_headers=provider.headers,
        query=spec.query,
        body=spec.body,
        encode=spec.encode,
        schema=schema,
        default_body=True,
        key_header=key_header,
        call_id_header=provider.call_id_header,
    )
    return request, compile_parts(request, report, at_provider)


def _compile_lookup(
    spec: MethodSpec, provider: ProviderSpec, prefix: str, report: Report, at_provider: Report, schema: object
) -> tuple[Rendering | None, Expression | None]:
    lookup = spec.lookup
    if lookup is None:
        return None, None
    at = report.at("lookup")
    request = RequestSpec(
        request=lookup.request,
        prefix=prefix,
        headers=lookup.headers,
        provider_headers=provider.headers,
        query=lookup.query,
        body=lookup.body,
        encode="json",
        schema=schema,
        default_body=False,
        call_id_header=provider.call_id_header,
    )
    parts = compile_parts(request, at, at_provider)
    return Rendering(request, parts) if parts.right else None, compile_response(lookup.found, at.at("found"))


def _check_leftovers(spec: MethodSpec, parts: Parts, schema: object, report: Report) -> None:
    """Find declared params that would go nowhere."""
    url, body = parts.uses.params, parts.body_uses.params
    if parts.sends_params or url is None or body is None:
        return
    left = ", ".join(name for name in properties(schema) if name not in url and name not in body)
    if not left:
        return
    if spec.body is None or parts.method in WITHOUT_BODY:
        why = f"{parts.method} sends no params in a body" if parts.method in WITHOUT_BODY else 'encode = "none" sends no body'
        report.at("request").problem(f"declared, but sent nowhere: {left}; {why}: name them as in {{?a,b}} or in `query`")
    else:
        report.at("body").warn(f"declared, but used by neither URL, query, headers nor body: {left}")


def _check_effect(spec: MethodSpec, parts: Parts, report: Report) -> None:
    sent = _key_spec(spec).header or parts.uses.key or parts.body_uses.key
    if spec.effect == "keyed" and not sent:
        report.at("idempotency_key").problem(
            'keyed, but the provider never gets the key: write idempotency_key = { header = "Idempotency-Key" }, or use =call.key'
        )
    if spec.effect == "once" and spec.lookup is None:
        report.at("lookup").warn(
            'once without a lookup: an unknown stays unknown; write one, or effect = "safe" or "keyed" if that is what it is'
        )
