"""The forms a value in the configuration may take beyond plain TOML: durations, addresses, hashes, URLs, schemas."""

import codecs
import datetime as dt
import ipaddress
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeAlias
from urllib.parse import SplitResult, urlsplit

import msgspec

from homing import curve
from homing.core.messages import TEXT_LENGTH_MAX
from homing.references import Secret, why_unreadable
from homing.units import format_duration, format_size, parse_duration, parse_size

NOWHERE = Path()  # for values with no file that names them, and no path in them
IPC_PATH_BYTES_MAX = 107  # sockaddr_un, without its last zero


class Unreadable(ValueError):
    """A file that cannot be read."""


class Form(msgspec.Struct, frozen=True):
    """How one kind of value is read. `parse` takes the TOML value, references resolved, and the folder its paths count from; it
    raises ValueError, with what is wrong in particular or with nothing. `secret`: what was found is never told. `stand_in` is what a
    process takes for a required value that is not for it, and that it cannot get at.
    """

    name: str  # in the reference: "duration"
    expected: str  # in a problem: 'a duration such as "60s"'
    parse: Callable[[object, Path], object]
    secret: bool = False
    write: Callable[[float], str] = str  # the value as TOML writes it
    literal: bool = False  # strings inside are left alone, `env:` and `file:` mean nothing
    stand_in: object = None


class Address(msgspec.Struct, frozen=True):
    """Where a listener listens. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError
    return raw


def _one_line(raw: object) -> str:
    text = _text(raw)
    if any(character < " " or character == "\x7f" for character in text):
        raise ValueError("it has a line break or another control character in it")
    return text


def _duration(raw: object, folder: Path) -> float:
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        raise ValueError(f'the unit is missing; did you mean "{raw}s"?')
    return parse_duration(_text(raw))


def _duration_or_off(raw: object, folder: Path) -> float:
    return 0.0 if raw == "" else _duration(raw, folder)


def _size(raw: object, folder: Path) -> int:
    if isinstance(raw, int) and not isinstance(raw, bool):
        if raw < 0:
            raise ValueError("it cannot be negative")
        return raw
    return parse_size(_text(raw))


def parse_address(raw: object, folder: Path = Path()) -> Address:
    """`"127.0.0.1:8370"` or `"[::1]:8370"`. Raises ValueError."""
    host, colon, port = _one_line(raw).rpartition(":")
    if not colon:
        raise ValueError("the port is missing")
    if not host:
        raise ValueError(f'the host is missing; "127.0.0.1:{port}" is this machine only, "0.0.0.0:{port}" every interface')
    if "//" in host:
        raise ValueError("it is an address and no URL, so leave the scheme out")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f'an IPv6 address needs brackets: "[{host}]:{port}"')
    if host.startswith("["):
        host = host[1:-1]
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError("between the brackets is no IPv6 address") from None
    elif not re.fullmatch(r"([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?", host, re.ASCII):
        raise ValueError(f'"{host}" is no host')
    return Address(host, _port(port))


def _port(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) or int(text) > 65535:
        raise ValueError("a port is a number from 0 to 65535")
    return int(text)


def _endpoint(raw: object, folder: Path) -> str:
    text = _one_line(raw)
    if text.startswith("ipc://"):
        return _ipc(text.removeprefix("ipc://"), folder)
    if not text.startswith("tcp://"):
        raise ValueError(f'it begins with neither tcp:// nor ipc://; did you mean "tcp://{text}"?' if _is_address(text) else "")
    return f"tcp://{parse_address(text.removeprefix('tcp://'))}"


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except ValueError:
        return False
    return True


def _ipc(name: str, folder: Path) -> str:
    """A socket in the file system; a name that begins with @ is one of Linux that is in none."""
    if not name.strip("@"):
        raise ValueError("the path is missing")
    path = name if name.startswith("@") else str((folder / name).absolute())
    if len(path.encode()) > IPC_PATH_BYTES_MAX:
        raise ValueError(f"a path for ipc:// has at most {IPC_PATH_BYTES_MAX} bytes, and {path} has {len(path.encode())}")
    return f"ipc://{path}"


def _socket_address(raw: object, folder: Path) -> str:
    return "" if raw == "" else _endpoint(raw, folder)


def parse_endpoint(raw: object, folder: Path = Path()) -> str:
    """`"tcp://127.0.0.1:8372"` or `"ipc://broker.sock"`, to connect to. Raises ValueError."""
    text = _endpoint(raw, folder)
    if text.startswith("tcp://") and text.endswith(":0"):
        raise ValueError("port 0 is for who listens")
    return text


def is_local(endpoint: str) -> bool:
    """Whether only this machine can reach an endpoint: ipc, or tcp on a loopback address."""
    return endpoint.startswith("ipc://") or parse_address(endpoint.removeprefix("tcp://")).loopback


def is_guarded(endpoint: str) -> bool:
    """Whether the file system says who may connect: such a socket needs no keys, and has none."""
    return endpoint.startswith("ipc:///")


def _address_or_off(raw: object, folder: Path) -> Address | None:
    return None if raw == "" else parse_address(raw)


def _curve_key(raw: object, folder: Path) -> str:
    text = _one_line(raw)
    if not curve.is_key(text):
        raise ValueError(f"it has {len(text)} characters" if len(text) != curve.KEY_LENGTH else "it is not Z85")
    return text


def _curve_key_or_off(raw: object, folder: Path) -> str:
    return "" if raw == "" else _curve_key(raw, folder)


def _file(raw: object, folder: Path) -> str:
    """An absolute path to a file that can be read; "" stays ""."""
    text = _one_line(raw)
    if text == "":
        return text
    path = (folder / text).absolute()
    try:
        with path.open("rb"):
            return str(path)
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {why_unreadable(error)}") from None


def _hash(raw: object) -> str:
    text = _text(raw)
    if text.startswith("hk_"):
        raise ValueError(
            "this is an API key itself, and whoever reads this file has it now; make a new one: `homing keys new NAME`"
        )
    if not text.startswith("sha256:"):
        raise ValueError("it begins with another word than sha256:")
    digest = text.removeprefix("sha256:")
    if not re.fullmatch(r"[0-9a-fA-F]*", digest, re.ASCII):
        raise ValueError("after sha256: stands something that is no hexadecimal digit")
    if len(digest) != 64:
        raise ValueError(f"after sha256: stand {len(digest)} digits")
    return f"sha256:{digest.lower()}"


def _hashes(raw: object, folder: Path) -> tuple[str, ...]:
    given = raw if isinstance(raw, list) else [raw]
    if not 1 <= len(given) <= 2:
        raise ValueError(f"it is a list of {len(given)}")
    hashes = tuple(_hash(one) for one in given)
    if len(set(hashes)) < len(hashes):
        raise ValueError("both are the same")
    return hashes


def _pattern(raw: object, folder: Path) -> str:
    text = _one_line(raw)
    if not text:
        raise ValueError("")
    if "*" in text[:-1]:
        raise ValueError("a * may only stand at the end")
    return text


def _origin(raw: object, folder: Path) -> str:
    text = _one_line(raw)
    url = _split_url(text)
    if url.path == "/" and text.endswith("/"):
        raise ValueError(f'leave the last slash out: "{text[:-1]}"')
    if url.path or url.query or url.fragment or "@" in url.netloc:
        raise ValueError("an origin is scheme, host and port only")
    if "*" in url.netloc:
        raise ValueError("a * stands for nothing here: list each origin")
    if url.port == {"http": 80, "https": 443}[url.scheme]:
        raise ValueError(f'browsers leave the default port out: "{url.scheme}://{url.netloc.rpartition(":")[0]}"')
    return text.lower()


def _split_url(text: str) -> SplitResult:
    if not re.match(r"https?://", text):
        raise ValueError("it begins with neither http:// nor https://")
    if not text.isascii() or re.search(r"""[\s<>"{}|\\^`]""", text):
        raise ValueError("it has a character in it that no URL may have")
    try:  # what is said of a URL repeats none of it: it may be a piece of a password
        url = urlsplit(text)
    except ValueError:
        raise ValueError("what stands in brackets is no IPv6 address") from None
    try:
        port = url.port
    except ValueError:
        raise ValueError("a port is a number from 1 to 65535; in a password / ? # are written %2F %3F %23") from None
    if not url.hostname:
        raise ValueError("the host is missing")
    if port == 0:
        raise ValueError("the port cannot be 0")
    return url


def _base_url(raw: object, folder: Path) -> str:
    text = _one_line(raw)
    url = _split_url(text)
    if "@" in url.netloc:
        raise ValueError("credentials in a URL end up in logs; use auth instead")
    if "?" in text or "#" in text:
        raise ValueError("a query belongs into a method's request or query")
    if any(part in (".", "..") for part in url.path.split("/")):
        raise ValueError("its path has . or .. in it")
    return text


def _token_url(raw: object, folder: Path) -> str:
    text = _one_line(raw)
    url = _split_url(text)
    if "@" in url.netloc or "#" in text:
        raise ValueError("it has credentials or a fragment in it")
    return text


def _proxy(raw: object, folder: Path) -> str:
    text = _one_line(raw)
    if text == "":
        return text
    if text.startswith("https://"):
        raise ValueError("the proxy itself is spoken to in plain HTTP, with CONNECT through it")
    url = _split_url(text)
    if url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError("a proxy has no path")
    return text


_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)  # RFC 9110 section 5.6.2


def _header_name(raw: object, folder: Path) -> str:
    text = _text(raw)
    if not _TOKEN.fullmatch(text):
        if " " in text.strip():
            raise ValueError(f'a header\'s name has no spaces; did you mean "{"-".join(text.split())}"?')
        raise ValueError(
            "a colon is no part of the name" if text.endswith(":") else "a header's name has letters, digits and - only"
        )
    return text


def _header_name_or_off(raw: object, folder: Path) -> str:
    return "" if raw == "" else _header_name(raw, folder)


def _name(raw: object, folder: Path) -> str:
    text = _one_line(raw)
    if not text or text != text.strip():
        raise ValueError("it is empty" if not text else "it begins or ends with a space")
    if len(text.encode()) > 200:
        raise ValueError("it is longer than 200 bytes")
    return text


def _name_or_off(raw: object, folder: Path) -> str:
    return "" if raw == "" else _name(raw, folder)


def _summary(raw: object, folder: Path) -> str:
    text = _text(raw)
    if len(text) > TEXT_LENGTH_MAX:
        raise ValueError(f"it has {len(text)} characters, at most {TEXT_LENGTH_MAX} can be told to other processes")
    return text


def _method_name(raw: object, folder: Path) -> str:
    text = _name(raw, folder)
    if "*" in text:
        raise ValueError("* is for patterns")
    if text.startswith("rpc."):
        raise ValueError('JSON-RPC keeps names that begin with "rpc." for itself')
    return text


def _code(words: tuple[str, ...]) -> Callable[[object, Path], object]:
    def parse(raw: object, folder: Path) -> str:
        text = _text(raw)
        if text in words:
            return text
        if not text.startswith("python:"):
            raise ValueError("")
        if not re.fullmatch(r"python:[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", text):
            raise ValueError("a Python function is named python:module:function")
        return text

    return parse


def not_json(value: object) -> str | None:
    """What in a TOML value JSON cannot say, None if nothing."""
    if isinstance(value, dict):
        return next((found for inner in value.values() if (found := not_json(inner))), None)
    if isinstance(value, list):
        return next((found for inner in value if (found := not_json(inner))), None)
    if isinstance(value, dt.date | dt.time):  # a datetime is a date
        return "a date or time without quotes is no JSON value"
    if isinstance(value, float) and not math.isfinite(value):
        return "JSON has no such number"
    return None


def _schema(raw: object, folder: Path) -> dict[str, object]:
    if isinstance(raw, dict):
        if found := not_json(raw):
            raise ValueError(found)
        return raw
    path = (folder / _one_line(raw)).absolute()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {why_unreadable(error)}") from None
    try:
        schema = msgspec.json.decode(content.removeprefix(codecs.BOM_UTF8))  # some editors write one
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise ValueError(f"{path} is not a JSON object")
    return schema


def _secret(raw: object, folder: Path) -> Secret:
    text = _text(raw)
    if not text:
        raise ValueError("it is empty")
    return Secret(text)


ELSEWHERE = "http://elsewhere.invalid"

DURATION = Form("duration", 'a duration such as "60s"', _duration, write=format_duration)
DURATION_OR_OFF = Form("duration", 'a duration such as "20s", or "" for off', _duration_or_off, write=format_duration)
SIZE = Form("size", 'a size such as "1MiB"', _size, write=lambda size: format_size(int(size)))
ADDRESS = Form("address", 'an address such as "127.0.0.1:8370"', parse_address)
ADDRESS_OR_OFF = Form("address", 'an address such as "127.0.0.1:8374", or "" for none', _address_or_off)
SOCKET_ADDRESS = Form("ZeroMQ address", 'an address such as "tcp://127.0.0.1:8372", or "" for none', _socket_address)
ENDPOINT = Form("ZeroMQ address", 'an address such as "tcp://127.0.0.1:8372"', parse_endpoint)
CURVE_KEY = Form("CURVE key", "a public key, 40 characters of Z85", _curve_key, stand_in="0" * 40)
CURVE_KEY_OR_OFF = Form("CURVE key", 'a public key, 40 characters of Z85, or "" for none', _curve_key_or_off)
SERVICE_PATTERN = Form("service pattern", 'a service\'s name, or the beginning of one and a *, such as "acme*"', _pattern)
FILE = Form("file", "the path of a file that can be read", _file)
HASHES = Form(
    "hash",
    '"sha256:" and 64 hexadecimal digits, or a list of two such while rotating',
    _hashes,
    secret=True,
    stand_in=("sha256:",),
)
PATTERN = Form("method pattern", 'a method\'s name, or the beginning of one and a *, such as "acme.*"', _pattern)
ORIGIN = Form("origin", 'an origin such as "https://app.example"', _origin)
BASE_URL = Form("URL", 'a URL such as "https://api.example/v2"', _base_url, stand_in=ELSEWHERE)
TOKEN_URL = Form("URL", 'a URL such as "https://login.example/oauth2/token"', _token_url, stand_in=ELSEWHERE)
PROXY = Form("proxy URL", 'a URL such as "http://proxy.example:3128", or "" for none', _proxy, secret=True)
HEADER_NAME = Form("header name", 'a header\'s name such as "Idempotency-Key"', _header_name, stand_in="elsewhere")
HEADER_NAME_OR_OFF = Form("header name", 'a header\'s name such as "Request-Id", or "" for none', _header_name_or_off)
NAME = Form("name", "a name", _name, stand_in="elsewhere")
NAME_OR_OFF = Form("name", 'a name, or "" for none', _name_or_off)
SUMMARY = Form("string", "a line for people", _summary)
METHOD_NAME = Form("method name", 'a method\'s name such as "acme.charge"', _method_name)
ENCODE = Form("encoding", '"json", "form", "text", "none" or "python:module:function"', _code(("json", "form", "text", "none")))
DECODE = Form("decoding", '"json", "text", "base64" or "python:module:function"', _code(("json", "text", "base64")))
SCHEMA = Form("JSON Schema", "a JSON Schema as a table, or the path of a JSON file", _schema, literal=True)
SECRET = Form(
    "secret", 'a string, best as a reference such as "env:ACME_TOKEN"', _secret, secret=True, stand_in=Secret("elsewhere")
)

Duration: TypeAlias = Annotated[float, DURATION]  # seconds
DurationOrOff: TypeAlias = Annotated[float, DURATION_OR_OFF]  # seconds, 0.0 is off
Size: TypeAlias = Annotated[int, SIZE]  # bytes
