"""From the params of a call to a request: the compiled form of `request`, `headers`, `query`, `body` and `encode`."""

import re
from typing import Final

import msgspec

from homing.core import uri
from homing.core.bodies import CONTENT_TYPES, Encode, compile_encode
from homing.core.exchange import HttpRequest
from homing.core.scalars import scalar_text
from homing.core.specs import CallInfo, MappingError
from homing.core.traps import HEADERS, REQUEST, is_closed, properties, undeclared
from homing.core.values import (
    NOTHING,
    Constant,
    Elements,
    Mapped,
    Members,
    Report,
    Template,
    Uses,
    check_exact,
    compile_value,
    mapped_values,
)

WITHOUT_BODY: Final = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
"""Methods that send no default body."""

_REQUEST = re.compile(r"(\S+) (\S.*)")
_METHOD = re.compile(r"[A-Z][A-Z0-9_-]*")
_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 section 5.5
_OURS = frozenset({  # framing and the connection are the edge's
    "accept-encoding", "connection", "content-length", "expect", "host", "keep-alive", "proxy-authenticate", "proxy-authorization",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip

_NOWHERE: Final = uri.Template(())


class RequestSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What a request is compiled from. `prefix` is the path of base_url, without a slash at its end."""

    request: str | None
    prefix: str
    headers: dict[str, object]
    provider_headers: dict[str, object]
    query: dict[str, object]
    body: object
    encode: str
    schema: object
    default_body: bool
    key_header: str = ""
    call_id_header: str = ""


class Parts(msgspec.Struct, frozen=True):
    """What the keys of a request were compiled to. `uses` is what URL, query and headers take, `body_uses` what the body takes.

    With mistakes in it it is not `right`: what of it is wrong is left out, and may use everything.
    """

    right: bool
    sends_params: bool
    method: str
    target: uri.Template
    query: tuple[tuple[str, Template], ...]
    headers: tuple[tuple[str, Template], ...]
    body: Template | None
    encode: Encode
    uses: Uses
    body_uses: Uses


class Rendering:
    """A compiled request."""

    __slots__ = (
        "_by_params", "_call_id_header", "_drop", "_empty", "_fixed", "_headers", "_json", "_key_header", "_may_type", "_needs_root",
        "_parts", "_plain", "_prefix", "_typed", "_untouched", "_varies", "needs_params", "sends_params", "uses_key",
    )  # fmt: skip

    def __init__(self, spec: RequestSpec, parts: Parts) -> None:
        self._parts = parts
        self._prefix = spec.prefix
        self._json = spec.encode == "json"
        self._key_header = spec.key_header
        self._call_id_header = spec.call_id_header
        self._empty = None if parts.method in WITHOUT_BODY else b""
        self._drop = None if parts.uses.params is None else frozenset(parts.uses.params)
        self.sends_params = parts.sends_params
        self._fixed: str | None = None
        if parts.target.constant is not None and all(isinstance(template, Constant) for _, template in parts.query):
            self._fixed = spec.prefix + self._with_query(parts.target.constant, {})
        self._needs_root = self._fixed is None or not isinstance(parts.body, Constant | None)
        self._headers = tuple((name, template) for name, template in parts.headers if not isinstance(template, Constant))
        self._varies = bool(self._headers or spec.key_header or spec.call_id_header)
        fixed = ((name, header_text(template.value, name)) for name, template in parts.headers if isinstance(template, Constant))
        self._plain = tuple((name, text) for name, text in fixed if text is not None)
        self._may_type = not any(name.lower() == "content-type" for name, _ in parts.headers)
        content_type = CONTENT_TYPES.get(spec.encode) if self._may_type else None
        self._typed = (("Content-Type", content_type), *self._plain) if content_type else self._plain
        self.uses_key = bool(spec.key_header) or parts.uses.key or parts.body_uses.key
        # A lookup: what is absent is left out, and a provider that is not told what to look for finds something all the same.
        names_call = self.uses_key or "call.id" in f"{spec.request} {spec.query} {spec.headers} {spec.body}"
        self._by_params = not spec.default_body and not names_call
        passes = parts.body is None and self.sends_params and self._json and self._drop == frozenset()
        self.needs_params = self._fixed is None or bool(self._headers) or not passes
        self._untouched = (parts.method, self._fixed, self._typed) if self._fixed and passes and not self._varies else None

    def render(self, params: dict[str, object], params_raw: bytes, call: CallInfo) -> HttpRequest:
        """Return the request. `params_raw` is the JSON text of `params`, b"" if there is none. Raises MappingError."""
        root = _root(params, call) if self._needs_root else {}
        if self._by_params and self._asks_for_nothing(root):
            raise MappingError(
                "none of the params is there that it asks by, and without them it could find what another call did"
            )
        target = self._fixed
        if target is None:
            target = self._prefix + self._with_query(self._parts.target.expand(root), root)
        made = self._render_body(params, params_raw, root)
        body: bytes | None
        if made is None:
            body, headers = self._empty, self._plain
        else:
            body, content_type = made
            headers = self._typed
            if content_type is not None and self._may_type:
                headers = (("Content-Type", header_text(content_type, "Content-Type") or ""), *headers)
        if self._varies:
            headers += self._render_headers(params, call)
        return HttpRequest(self._parts.method, target, headers, body)

    def _asks_for_nothing(self, root: dict[str, object]) -> bool:
        """Whether URL, query and body are to hold something of a call, and for this one there is nothing."""
        parts = self._parts
        values = [uri.value_of(name, root) for name in parts.target.names]
        for template in (*(template for _, template in parts.query), *([] if parts.body is None else [parts.body])):
            values += mapped_values(template, root)
        return bool(values) and all(value in NOTHING for value in values)

    def untouched(self, params_raw: bytes) -> HttpRequest | None:
        """Return the request where its body is the params' text and all else is the same for every call; None: use `render`."""
        same = self._untouched
        if same is None or not params_raw.startswith(b"{"):
            return None
        return HttpRequest(same[0], same[1], same[2], params_raw)

    def _render_body(
        self, params: dict[str, object], params_raw: bytes, root: dict[str, object]
    ) -> tuple[bytes, str | None] | None:
        """Return the bytes of the body and their type if `encode` chose it; None: no body."""
        if self._parts.body is not None:
            value = self._parts.body.render(root)
            if value is None:
                return None
            check_exact(value, params)
            return self._parts.encode(value)
        if not self.sends_params:
            return None
        drop = self._drop
        if drop is None:
            return self._parts.encode({})
        if drop and not drop.isdisjoint(params):
            return self._parts.encode({name: value for name, value in params.items() if name not in drop})
        if self._json and params_raw[:1] == b"{":
            return params_raw, None  # untouched, so that no number in it changes
        return self._parts.encode(params)

    def _with_query(self, target: str, root: dict[str, object]) -> str:
        if not self._parts.query:
            return target
        out = [target]
        mark = "&" if "?" in target else "?"
        for name, template in self._parts.query:
            for text in query_texts(template, root, name):
                out += (mark, uri.encode(name), "=", text)
                mark = "&"
        return "".join(out)

    def _render_headers(self, params: dict[str, object], call: CallInfo) -> tuple[tuple[str, str], ...]:
        """Return the headers that differ from call to call."""
        made: list[tuple[str, str]] = []
        if self._headers:
            about = {"id": call.id, "key": call.key, "principal": call.principal, "attempt": call.attempt}
            root: dict[str, object] = {"params": params, "call": about}
            for name, template in self._headers:
                where = template.pointer if isinstance(template, Mapped) else ""
                text = header_text(template.render(root), name, where)
                if text is not None:
                    made.append((name, text))
        if self._key_header:
            made.append((self._key_header, header_text(call.key, self._key_header) or ""))
        if self._call_id_header:
            made.append((self._call_id_header, call.id))
        return tuple(made)


def sends_params(spec: RequestSpec, method: str) -> bool:
    """Whether what URL, query and headers leave of the params goes into the body."""
    return spec.default_body and spec.body is None and method not in WITHOUT_BODY and spec.encode != "none"


def _root(params: dict[str, object], call: CallInfo) -> dict[str, object]:
    return {"params": params, "call": {"id": call.id, "key": call.key, "principal": call.principal}}


def query_texts(template: Template, root: dict[str, object], name: str) -> list[str]:
    """Render one entry of `query`: an array is repeated, what is absent is left out. Raises MappingError."""
    value = template.render(root)
    try:
        return uri.form_values(value, name, explode=True)
    except MappingError as error:
        raise MappingError(f"query {error.message}", template.pointer if isinstance(template, Mapped) else "") from error


def header_text(value: object, name: str, where: str = "") -> str | None:
    """Write a header's value; None: absent. Raises MappingError for what could end the header or has no byte in it."""
    try:
        text = scalar_text(value)
    except ValueError as error:
        raise MappingError(f"header {name} {error}", where) from error
    if text is None or _VALUE.fullmatch(text):
        return text
    raise MappingError(f"header {name} cannot hold line breaks, control characters or what is not Latin-1", where)


def check_header_name(name: str) -> str | None:
    """Say what is wrong with the name of a header that requests are to carry, None if nothing is."""
    if not _TOKEN.fullmatch(name):
        return f"{name!r} is no header name: it is letters, digits and - without spaces (RFC 9110 section 5.6.2)"
    if name.lower() in _OURS:
        return f"{name} belongs to the connection and is written by homing itself: leave it out"
    return None


def compile_parts(spec: RequestSpec, report: Report, provider: Report) -> Parts:
    """Compile what a request is made of. `provider` is the report of what its provider adds."""
    before = len(report.problems)
    uses, body_uses = Uses(), Uses()
    method, target = _compile_line(spec, report.at("request"), uses)
    query = _compile_query(spec, report.at("query"), uses)
    headers = _compile_headers(spec, report.at("headers"), provider, uses)
    so_far = len(report.problems)
    body = None if spec.body is None else compile_value(spec.body, REQUEST, spec.schema, report.at("body"), body_uses)
    sound = all(problem.warning for problem in report.problems[so_far:])
    try:
        encode = compile_encode(spec.encode)
    except ValueError as error:
        report.at("encode").problem(str(error))
        encode = compile_encode("none")
    sends = sends_params(spec, method)
    if method or body is not None:
        _check_body(spec, body, "any" if body is None or not sound else _shape(body), method, report)
    if sends and method:
        for name, template in query:
            _check_rest(template, spec.schema, report.at("query").at(name))
        for name, template in headers:
            _check_rest(template, spec.schema, (report if name in spec.headers else provider).at("headers").at(name))
    right = target is not None and all(problem.warning for problem in report.problems[before:])
    return Parts(right, sends, method, target or _NOWHERE, query, headers, body, encode, uses, body_uses)


def _compile_line(spec: RequestSpec, report: Report, uses: Uses) -> tuple[str, uri.Template | None]:
    """Compile `request`. Without one, which somebody else has said, it may be any."""
    if spec.request is None:
        uses.add_all()
        return "", None
    method, template = _compile_target(spec.request, spec.schema, report)
    if template is None:
        uses.add_all()
    else:
        uses.add(frozenset(template.names), template.uses_key)
    return method, template


def _compile_target(request: str, schema: object, report: Report) -> tuple[str, uri.Template | None]:
    match = _REQUEST.fullmatch(request)
    if match is None or not _METHOD.fullmatch(match[1]):
        report.problem(
            f'found {request!r}, expected a method in capitals, one space and a path, as in "POST /charges/{{account}}"'
        )
        return "", None
    if match[1] in {"CONNECT", "TRACE"}:
        report.problem(f"{match[1]} asks for no resource of a provider")
    if _ABSOLUTE.match(match[2]):
        report.problem("the URL is base_url with this path: write the path alone, from its first /")
        return match[1], None
    template, problems = uri.parse(match[2])
    for message in problems:
        report.problem(message)
    if template is not None:
        declared = properties(schema)
        for name in template.names if is_closed(schema) else ():
            if name not in declared:
                (report.problem if name in template.needed else report.warn)(f"{{{name}}}: {undeclared(name, declared)}")
    return match[1], template


def _compile_query(spec: RequestSpec, report: Report, uses: Uses) -> tuple[tuple[str, Template], ...]:
    made: list[tuple[str, Template]] = []
    for name, value in spec.query.items():
        at = report.at(name)
        template = compile_value(value, REQUEST, spec.schema, at, uses)
        if isinstance(template, Members):
            at.problem("an object has no place in a query: write one entry for each of its members")
        elif isinstance(template, Constant):
            try:
                query_texts(template, {}, name)
            except MappingError as error:
                at.problem(error.message)
        made.append((name, template))
    return tuple(made)


def _compile_headers(spec: RequestSpec, report: Report, provider: Report, uses: Uses) -> tuple[tuple[str, Template], ...]:
    """Compile the provider's headers and the method's, which stand in for those of the same name."""
    own = {name.lower() for name in spec.headers}
    made = [
        _compile_header(name, value, spec, provider.at("headers").at(name), uses)
        for name, value in spec.provider_headers.items()
        if name.lower() not in own
    ]
    made += [_compile_header(name, value, spec, report.at(name), uses) for name, value in spec.headers.items()]
    taken: dict[str, str] = {}
    if spec.key_header:
        taken[spec.key_header.lower()] = "idempotency_key.header"
    if spec.call_id_header:
        other = taken.setdefault(spec.call_id_header.lower(), "the provider's call_id_header")
        if other == "idempotency_key.header":  # the provider would take either for the key
            provider.at("call_id_header").problem(f"{other} has set {spec.call_id_header} already: a header is set once")
    for name, _ in made:
        other = taken.setdefault(name.lower(), name)
        if other != name:
            report.at(name).problem(f"{other} has set {name} already: a header is set once")
    return tuple(made)


def _compile_header(name: str, value: object, spec: RequestSpec, report: Report, uses: Uses) -> tuple[str, Template]:
    wrong = check_header_name(name)
    if wrong:
        report.problem(wrong)
    template = compile_value(value, HEADERS, spec.schema, report, uses)
    if isinstance(template, Members | Elements):
        report.problem("a header is one text: write join(', ', …) for a list")
    elif isinstance(template, Constant):
        try:
            header_text(template.value, name)
        except MappingError as error:
            report.problem(error.message)
    return name, template


def _check_body(spec: RequestSpec, body: Template | None, shape: str, method: str, report: Report) -> None:
    """Find what no call could ever send: a body that `encode` has no way to write."""
    if body is None:
        if spec.encode == "text" and sends_params(spec, method):
            report.at("encode").problem('the default body is an object, and no text: write body = "=…" that makes one')
        return
    if spec.encode == "none":
        report.at("body").problem('encode = "none" sends no body: leave out the one or the other')
    elif spec.encode == "form" and shape not in {"object", "any"}:
        report.at("body").problem("a form is made of an object")
    elif spec.encode == "text" and shape not in {"scalar", "any"}:
        report.at("body").problem('a text is made of one value: write body = "=…" that makes one')


def _check_rest(template: Template, schema: object, report: Report) -> None:
    """Find what nobody would miss until it is missed: of a param that is used in part, the default body has nothing."""
    path = template.expression.path if isinstance(template, Mapped) else None
    if path is None or len(path) < 3 or path[0] != "params":
        return
    inside = properties(schema).get(str(path[1]))
    if not is_closed(inside) or properties(inside).keys() - {path[2]}:
        report.warn(f"the default body leaves out all of {path[1]}, and not only what is used here: write a body of its own")


def _shape(body: Template) -> str:
    sample = body.value if isinstance(body, Constant) else None
    if isinstance(body, Mapped):
        return "any"
    if isinstance(body, Members) or isinstance(sample, dict):
        return "object"
    return "array" if isinstance(body, Elements) or isinstance(sample, list) else "scalar"
