"""A request as bytes, or a refusal before one of them is written.

Everything that goes into a request line or a header is looked at here, whoever it came from: no value can end its line, add a header
or change how long the request is.
"""

import re
from typing import Final

from homing.core.exchange import HttpRequest
from homing.edges.provider_content import ACCEPT_ENCODING

# How long a request is and what becomes of the connection is the edge's business (RFC 9112 sections 6 and 9).
FRAMING: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # all but the tab (section 5.5)
_PLAIN, _HOST, _ACCEPT_ENCODING = 0, 1, 2
_KINDS: Final[dict[str, int]] = {}  # header names that were found good; they come from configurations, so they are few
_KINDS_MAX: Final = 1024
_ACCEPT: Final = f"Accept-Encoding: {ACCEPT_ENCODING}\r\n"
# What was found good of the last request to a target: method, header fields, host, and the head up to the Content-Length's number.
_HEADS: Final[dict[str, tuple[str, tuple[tuple[str, str], ...], str, bytes]]] = {}
_HEADS_MAX: Final = 256
_HEAD_BYTES_MAX: Final = 2048
METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def header_problem(name: str, value: str) -> str | None:
    """Return why a header cannot be sent, None if it can. The value is never in it, for it may be a secret."""
    try:
        _kind(name)
    except ValueError as error:
        return str(error)
    if _CONTROL.search(value):
        return f"the value of header {name} holds a control character"
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        return f"the value of header {name} is not Latin-1"
    return None


def target_problem(target: str) -> str | None:
    """Return why a request target cannot be sent, None if it can. The target is never in it, for its query may hold a secret."""
    if not target.startswith("/"):
        return "the request target does not begin with /"
    if not target.isascii() or not target.isprintable() or " " in target or "#" in target:
        return "the request target holds a character that was not percent-encoded"
    return None


def encode(request: HttpRequest, host: str) -> bytes:
    """Return the bytes of a request, head and body. Raises ValueError for what could not be sent without changing its meaning.

    `host` is the value of the Host header, unless the request brings its own.
    """
    method, target, headers = request.method, request.target, request.headers
    known = _HEADS.get(target)
    if known is not None and known[0] == method and known[1] == headers and known[2] == host and request.body is not None:
        return b"%b%d\r\n\r\n%b" % (known[3], len(request.body), request.body)
    if not (target.isascii() and target.isprintable() and target[:1] == "/") or " " in target or "#" in target:
        raise ValueError(target_problem(target))
    if method not in METHODS and not _TOKEN.fullmatch(method):
        raise ValueError("the request method is no token")
    fields = ""
    seen = 0
    for name, value in headers:
        kind = _KINDS.get(name)
        if kind is None:
            kind = _kind(name)
        if kind:
            if kind & seen:
                raise ValueError(f"two {name} headers")
            seen |= kind
        fields += f"{name}: {value}\r\n"
    # One look at all values: as many line ends as headers, and nothing but them that does not print. Tabs and some of Latin-1 take
    # the longer look.
    if fields.count("\r\n") != len(headers) or not fields.replace("\r\n", "").isprintable():
        for name, value in headers:
            if (problem := header_problem(name, value)) is not None:
                raise ValueError(problem)
    if not seen & _HOST:
        fields = f"Host: {host}\r\n{fields}"
    if not seen & _ACCEPT_ENCODING:
        fields += _ACCEPT
    body = request.body
    if body is None:
        text = f"{method} {target} HTTP/1.1\r\n{fields}\r\n"
    else:
        text = f"{method} {target} HTTP/1.1\r\n{fields}Content-Length: {len(body)}\r\n\r\n"
    try:
        head = text.encode("latin-1")
    except UnicodeEncodeError:
        problems = (header_problem(name, value) for name, value in headers)
        raise ValueError(next(filter(None, problems), "the request is not Latin-1")) from None
    if body is None:
        return head
    if len(head) <= _HEAD_BYTES_MAX:
        if len(_HEADS) >= _HEADS_MAX:
            _HEADS.clear()
        _HEADS[target] = (method, headers, host, head[: head.rindex(b" ") + 1])
    return head + body


def _kind(name: str) -> int:
    if not _TOKEN.fullmatch(name):
        raise ValueError("a header's name is no token")
    lower = name.lower()
    if lower in FRAMING:
        raise ValueError(f"header {name} is not for the caller to set")
    kind = _HOST if lower == "host" else _ACCEPT_ENCODING if lower == "accept-encoding" else _PLAIN
    if len(_KINDS) < _KINDS_MAX:
        _KINDS[name] = kind
    return kind
