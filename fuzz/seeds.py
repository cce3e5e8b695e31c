"""What each target begins with: from good input a fuzzer finds the bad one beside it."""

import gzip
import zlib

from fuzz.targets import framed
from homing.core import codec
from homing.core.messages import (
    Cancel,
    Claim,
    Final,
    Grant,
    Heartbeat,
    Hello,
    MethodOffer,
    Ready,
    Reject,
    Request,
    Settled,
    Workers,
)
from homing.errors import Outcome

ID, LIFE = b"i" * 16, b"l" * 16

_CALL = b'{"jsonrpc":"2.0","id":7,"method":"acme.charge","params":{"account":"a1","amount":1200}}'
_MESSAGES = (
    Hello(LIFE),
    Request(ID, "acme", "acme.charge", 1000, "once", "web", "k", 0, "no", "", b"{}"),
    Cancel(ID),
    Reject(ID, "refused", "circuit_open"),
    Claim(ID, LIFE, 1),
    Grant(ID, LIFE, 1, 900),
    Final(ID, LIFE, 1, Outcome(reason="ok", executed="yes", result=b"{}")),
    Final(ID, LIFE, 1, Outcome(reason="provider_failed", executed="unknown", message="no", status=500, body=b'"x"')),
    Settled(LIFE, (ID,)),
    Ready(LIFE, {"acme": 5}, 1000, (MethodOffer("a.b", "a", "safe", 10, "", b"{}"),)),
    Heartbeat(life=LIFE, peer_life=LIFE, sent=1, received=2, in_flight=(ID,)),
    Workers((LIFE,)),
)
_TOML = b"""
[providers.acme]
base_url = "http://127.0.0.1:1/v1"
auth = { type = "bearer", token = "env:TOKEN" }
[methods."acme.charge"]
provider = "acme"
request = "POST /charges/{account}{?expand}"
body = { amount = "=params.amount" }
[methods."acme.charge".params]
properties.account.type = "string"
properties.expand.type = "array"
additionalProperties = false
"""

SEEDS: dict[str, tuple[bytes, ...]] = {
    "request_body": (
        _CALL,
        b"[" + _CALL + b', {"jsonrpc":"2.0","method":"n"}, 1]',
        b'{"jsonrpc":"2.0","id":"\\u00e9","method":"m","params":[1.5e3,null],"meta":{"timeout":1,"idempotency_key":"k"}}',
        b'{"jsonrpc":"2.0","id":null,"method":"m","params":{"_meta":{"homing":{"timeout":2}},"a":1}}',
    ),
    "json_text": (b'{"a":[1,2.5e-3,"\\ud83d\\ude00",true,null]}', b"123456789012345678901234567890", b'  "x"  '),
    "request_head": (
        b"POST /rpc HTTP/1.1\r\nHost: a\r\nContent-Length: 5",
        b"POST / HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue",
        b"GET http://a/livez?x=1 HTTP/1.0\r\nConnection: keep-alive",
        b"OPTIONS * HTTP/1.1\r\nHost: [::1]\r\nOrigin: null",
    ),
    "chunked_body": (b"5\r\nhello\r\n0\r\n\r\n", b'1;a=b\r\nx\r\n000;q="\\""\r\nTrailer: 1\r\n\r\nGET'),
    "provider_response": (
        b"\0HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"\0HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"\0HTTP/1.0 500 No\r\n\r\nuntil it closes",
        b"\1HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n",
        b"\0HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 22\r\n\r\n" + gzip.compress(b"{}", mtime=0),
        b"\0HTTP/1.1 204 No\r\n\r\n",
    ),
    "content_coding": (gzip.compress(b"x" * 100, mtime=0), zlib.compress(b"abc"), zlib.compress(b"abc", wbits=-15)),
    "wire": (*(framed(*codec.encode([message])) for message in _MESSAGES), framed(*codec.encode(_MESSAGES[:3]))),
    "majordomo_frames": (
        framed(b"", b"MDPW01", b"\x01", b"echo"),
        framed(b"", b"MDPW02", b"\x05", b"client", b"", b"body"),
        framed(b"MDPC01", b"acme.charge", b"{}"),
        framed(b"", b"MDPC02", b"\x01", b"mmi.service", b"echo"),
    ),
    "uri_template": (b"/a/{b}/c{?d,e*}\nvalue", b"/{call.id}{&x}\n..", b"/\xc3\xa9/{b}?x=1\n%2e%2e/"),
    "configuration": (
        _TOML,
        b'include = ["*.toml"]\n[gateway]\nlisten = "127.0.0.1:0"\n',
        b'[principals.a]\napi_key_hash = "sha256:"\n',
    ),
    "client_answer": (
        b'{"jsonrpc":"2.0","id":"7","result":{"ok":true}}',
        b'{"jsonrpc":"2.0","id":"7","error":{"code":5040,"message":"m","data":{"executed":"no","retry":"safe","reason":"expired"}}}',
        b'[{"jsonrpc":"2.0","id":"7","error":{"code":-32700,"message":"m"}}]',
    ),
}
