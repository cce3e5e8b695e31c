import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing import forms
from homing.forms import Address, Form, not_json, parse_address
from homing.references import Secret


@pytest.mark.parametrize(
    ("form", "raw", "value"),
    [
        (forms.DURATION, "1m", 60.0),
        (forms.DURATION_OR_OFF, "", 0.0),
        (forms.DURATION_OR_OFF, "20s", 20.0),
        (forms.SIZE, "1MiB", 1024**2),
        (forms.SIZE, 512, 512),
        (forms.ADDRESS, "127.0.0.1:8370", Address("127.0.0.1", 8370)),
        (forms.ADDRESS, "[::1]:0", Address("::1", 0)),
        (forms.ADDRESS, "gateway.internal:65535", Address("gateway.internal", 65535)),
        (forms.SOCKET_ADDRESS, "", ""),
        (forms.SOCKET_ADDRESS, "tcp://[::1]:8372", "tcp://[::1]:8372"),
        (forms.SOCKET_ADDRESS, "ipc://@broker", "ipc://@broker"),
        (forms.ENDPOINT, "tcp://broker.internal:8372", "tcp://broker.internal:8372"),
        (forms.ADDRESS_OR_OFF, "", None),
        (forms.ADDRESS_OR_OFF, "[::1]:8374", Address("::1", 8374)),
        (forms.CURVE_KEY, "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID", "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"),
        (forms.CURVE_KEY_OR_OFF, "", ""),
        (forms.SERVICE_PATTERN, "acme*", "acme*"),
        (forms.FILE, "", ""),
        (forms.HASHES, "sha256:" + "aB" * 32, ("sha256:" + "ab" * 32,)),
        (forms.HASHES, ["sha256:" + "a" * 64, "sha256:" + "b" * 64], ("sha256:" + "a" * 64, "sha256:" + "b" * 64)),
        (forms.PATTERN, "acme.*", "acme.*"),
        (forms.PATTERN, "*", "*"),
        (forms.PATTERN, "acme.charge", "acme.charge"),
        (forms.ORIGIN, "https://App.example:8443", "https://app.example:8443"),
        (forms.BASE_URL, "https://api.example/v2/", "https://api.example/v2/"),
        (forms.BASE_URL, "http://[::1]:8080", "http://[::1]:8080"),
        (forms.TOKEN_URL, "https://login.example/token?tenant=1", "https://login.example/token?tenant=1"),
        (forms.PROXY, "", ""),
        (forms.PROXY, "http://user:word@proxy.example:3128", "http://user:word@proxy.example:3128"),
        (forms.HEADER_NAME, "X-Api-Key", "X-Api-Key"),
        (forms.HEADER_NAME_OR_OFF, "", ""),
        (forms.HEADER_NAME_OR_OFF, "request-id", "request-id"),
        (forms.NAME, "shop é", "shop é"),
        (forms.METHOD_NAME, "acme.charge", "acme.charge"),
        (forms.ENCODE, "form", "form"),
        (forms.ENCODE, "python:acme.codec:encode", "python:acme.codec:encode"),
        (forms.DECODE, "base64", "base64"),
        (forms.SCHEMA, {"type": "object"}, {"type": "object"}),
        (forms.SECRET, "s3cret", Secret("s3cret")),
    ],
)
def test_a_value_of_the_form_is_read(form: Form, raw: object, value: object, tmp_path: Path) -> None:
    assert form.parse(raw, tmp_path) == value


@pytest.mark.parametrize(
    ("form", "raw", "says"),
    [
        (forms.DURATION, 60, 'the unit is missing; did you mean "60s"?'),
        (forms.DURATION, True, ""),
        (forms.DURATION, "", ""),
        (forms.DURATION_OR_OFF, [], ""),
        (forms.SIZE, -1, "cannot be negative"),
        (forms.SIZE, True, ""),
        (forms.SIZE, 1.5, ""),
        (forms.SIZE, "1mb", 'write "1MB"'),
        (forms.ADDRESS, 8370, ""),
        (forms.ADDRESS, "8370", "the port is missing"),
        (forms.ADDRESS, ":8370", '"0.0.0.0:8370" every interface'),
        (forms.ADDRESS, "http://127.0.0.1:8370", "leave the scheme out"),
        (forms.ADDRESS, "::1:8370", 'an IPv6 address needs brackets: "[::1]:8370"'),
        (forms.ADDRESS, "[::x]:8370", "no IPv6 address"),
        (forms.ADDRESS, "*:8370", '"*" is no host'),
        (forms.ADDRESS, "a..b:8370", '"a..b" is no host'),
        (forms.ADDRESS, "a" * 64 + ":8370", "is no host"),
        (forms.ADDRESS, "localhost:http", "a port is a number from 0 to 65535"),
        (forms.ADDRESS, "localhost:65536", "a port is a number from 0 to 65535"),
        (forms.ADDRESS, "localhost:80\n", "a line break"),
        (forms.SOCKET_ADDRESS, "127.0.0.1:8372", 'did you mean "tcp://127.0.0.1:8372"?'),
        (forms.SOCKET_ADDRESS, "udp://127.0.0.1:8372", ""),
        (forms.SOCKET_ADDRESS, "ipc://", "the path is missing"),
        (forms.SOCKET_ADDRESS, "ipc:///" + "x" * 107, "at most 107 bytes"),
        (forms.ENDPOINT, "", ""),
        (forms.ENDPOINT, "tcp://127.0.0.1:0", "port 0 is for who listens"),
        (forms.CURVE_KEY, "abc", "it has 3 characters"),
        (forms.CURVE_KEY, "~" * 40, "it is not Z85"),
        (forms.CURVE_KEY_OR_OFF, "abc", "it has 3 characters"),
        (forms.SOCKET_ADDRESS, "tcp://*", "the port is missing"),
        (forms.FILE, "nope.pem", "no such file or directory"),
        (forms.FILE, ".", "is a directory"),
        (forms.HASHES, "hk_abc", "this is an API key itself"),
        (forms.HASHES, "md5:abc", "another word than sha256:"),
        (forms.HASHES, "sha256:xyz", "no hexadecimal digit"),
        (forms.HASHES, "sha256:abc", "stand 3 digits"),
        (forms.HASHES, [], "a list of 0"),
        (forms.HASHES, ["sha256:" + "a" * 64] * 2, "both are the same"),
        (forms.HASHES, [1], ""),
        (forms.PATTERN, "", ""),
        (forms.PATTERN, "*.charge", "only stand at the end"),
        (forms.ORIGIN, "https://app.example/", 'leave the last slash out: "https://app.example"'),
        (forms.ORIGIN, "https://app.example:443", 'browsers leave the default port out: "https://app.example"'),
        (forms.ORIGIN, "https://*.example", "a * stands for nothing here"),
        (forms.ORIGIN, "http://[::1]:80", 'browsers leave the default port out: "http://[::1]"'),
        (forms.ORIGIN, "https://app.example/page", "scheme, host and port only"),
        (forms.ORIGIN, "app.example", "neither http:// nor https://"),
        (forms.BASE_URL, "api.example", "neither http:// nor https://"),
        (forms.BASE_URL, "https://user:word@api.example", "use auth instead"),
        (forms.BASE_URL, "https://api.example/?a=1", "a query belongs into"),
        (forms.BASE_URL, "https://api.example/a/../b", "its path has . or .."),
        (forms.BASE_URL, "https://api.example/{x}", "no URL may have"),
        (forms.BASE_URL, "https://api.exämple/", "no URL may have"),
        (forms.BASE_URL, "https:///x", "the host is missing"),
        (forms.BASE_URL, "https://api.example:0", "cannot be 0"),
        (forms.BASE_URL, "https://api.example:99999", "a port is a number from 1 to 65535"),
        (forms.BASE_URL, "https://[::1", "no IPv6 address"),
        (forms.TOKEN_URL, "https://a@login.example", "credentials or a fragment"),
        (forms.PROXY, "https://proxy.example", "plain HTTP"),
        (forms.PROXY, "http://proxy.example/x", "a proxy has no path"),
        (forms.PROXY, "proxy.example:3128", "neither http:// nor https://"),
        (forms.HEADER_NAME, "X Api Key", 'did you mean "X-Api-Key"?'),
        (forms.HEADER_NAME, "Accept:", "a colon is no part of the name"),
        (forms.HEADER_NAME, "Accept\r\n", "letters, digits and - only"),
        (forms.HEADER_NAME, "", "letters, digits and - only"),
        (forms.NAME, "", "it is empty"),
        (forms.NAME, " x", "begins or ends with a space"),
        (forms.NAME, "a\0b", "control character"),
        (forms.NAME, "x" * 201, "longer than 200 bytes"),
        (forms.METHOD_NAME, "acme.*", "* is for patterns"),
        (forms.METHOD_NAME, "rpc.discover", 'begin with "rpc."'),
        (forms.ENCODE, "xml", ""),
        (forms.ENCODE, "python:codec", "python:module:function"),
        (forms.SCHEMA, "nope.json", "no such file or directory"),
        (forms.SCHEMA, "broken.json", "is not JSON"),
        (forms.SCHEMA, "list.json", "is not a JSON object"),
        (forms.SCHEMA, {"const": dt.date(2026, 1, 1)}, "a date or time without quotes"),
        (forms.SECRET, "", "it is empty"),
        (forms.SECRET, 5, ""),
    ],
)
def test_a_value_of_another_form_is_told_why(form: Form, raw: object, says: str, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ValueError) as raised:
        form.parse(raw, tmp_path)
    assert says in str(raised.value)
    assert bool(says) is bool(str(raised.value))


@pytest.mark.parametrize("password", ["hun/ter2", "hun?ter2", "hun#ter2", "hun[ter2]", "hun[ter2", "hun\\ter2", "hun ter2"])
def test_what_is_wrong_with_a_url_is_told_without_its_password(password: str) -> None:
    with pytest.raises(ValueError) as raised:
        forms.PROXY.parse(f"http://user:{password}@proxy.example:3128", forms.NOWHERE)
    assert "hun" not in str(raised.value)
    assert "ter2" not in str(raised.value)


def test_paths_count_from_the_folder_that_is_given(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    assert forms.SCHEMA.parse("schema.json", tmp_path) == {"type": "object"}
    (tmp_path / "marked.json").write_bytes(b"\xef\xbb\xbf{}")
    assert forms.SCHEMA.parse("marked.json", tmp_path) == {}
    assert forms.FILE.parse("schema.json", tmp_path) == str(tmp_path / "schema.json")
    assert forms.FILE.parse(str(tmp_path / "schema.json"), Path("elsewhere")) == str(tmp_path / "schema.json")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("gateway", False),
    ],
)
def test_an_address_knows_whether_others_can_reach_it(host: str, loopback: bool) -> None:
    assert Address(host, 1).loopback is loopback


@given(st.ip_addresses(), st.integers(0, 65535))
def test_an_address_is_written_as_it_is_read(host: object, port: int) -> None:
    address = Address(str(host), port)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"a": [1, "x", 1.5, True]}, None),
        ({"a": [dt.time(1)]}, "date or time"),
        ({"a": {"b": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}}, "date or time"),
        ([float("inf")], "no such number"),
        (float("nan"), "no such number"),
    ],
)
def test_what_json_cannot_say_is_found_at_any_depth(value: object, says: str | None) -> None:
    found = not_json(value)
    assert found is None if says is None else says in str(found)


def test_a_path_of_ipc_counts_from_the_file_that_names_it(tmp_path: Path) -> None:
    assert forms.SOCKET_ADDRESS.parse("ipc://run/broker.sock", tmp_path) == f"ipc://{tmp_path}/run/broker.sock"


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        ("ipc://@x", True),
        ("tcp://127.1.2.3:1", True),
        ("tcp://[::1]:1", True),
        ("tcp://localhost:1", True),
        ("tcp://10.0.0.1:1", False),
    ],
)
def test_what_only_this_machine_can_reach_is_local(endpoint: str, local: bool) -> None:
    assert forms.is_local(endpoint) is local
