"""Servers that behave as the providers of the how-to pages do. Each keeps a ledger of what it has really done."""

import contextlib
import http.server
import socket
import ssl
import struct
import threading
from collections import Counter
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl
from xml.etree import ElementTree as ET

import trustme

from tests.serving import Answer, Asked


class PaymentsApi:
    """Forms in, JSON out, idempotency keys, a list by reference. What happens to a charge is decided by its card."""

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.charges: list[dict[str, Any]] = []
        self.kept: dict[str, tuple[bytes, Answer]] = {}  # key -> the request and its answer
        self.asked: Counter[str] = Counter()

    def __call__(self, asked: Asked) -> Answer:
        if asked.headers.get("authorization") != f"Bearer {self.secret}":
            return _refusal(401, "invalid_request_error", "Invalid API key.")
        if asked.headers.get("pay-version") is None:
            return _refusal(400, "invalid_request_error", "Which version?")
        match asked.method, asked.path.removeprefix("/v1"):
            case "POST", "/charges":
                return self._under_its_key(asked)
            case "POST", "/refunds":
                return Answer(body={"object": "refund", "charge": parse_qs(asked.body.decode())["charge"][0]})
            case "GET", "/charges":
                reference = parse_qs(asked.query)["reference"][0]
                return Answer(body={"data": [each for each in self.charges if each["reference"] == reference][:1]})
            case "GET", path:
                found = [each for each in self.charges if path == f"/charges/{each['id']}"]
                return Answer(body=found[0]) if found else _refusal(404, "invalid_request_error", "No such charge.")
        return _refusal(404, "invalid_request_error", "No such page.")

    def _under_its_key(self, asked: Asked) -> Answer:
        if not asked.headers["content-type"].startswith("application/x-www-form-urlencoded"):
            return _refusal(400, "invalid_request_error", "A form was expected.")
        form = dict(parse_qsl(asked.body.decode(), strict_parsing=True))
        key, card = asked.headers["idempotency-key"], form["source"]
        self.asked[key] += 1
        first = self.asked[key] == 1
        if key in self.kept:
            body, answer = self.kept[key]
            if body != asked.body:
                return _refusal(400, "idempotency_error", "This key was used with other parameters.")
            return Answer(drop=True) if card == "tok_lost_always" else answer
        match card:
            case "tok_lost_before" if first:
                return Answer(drop=True)
            case "tok_busy" if first:
                return _refusal(429, "rate_limit", "Too many requests.")
            case "tok_in_progress" if first:
                return _refusal(409, "idempotency_key_in_use", "A request with this key is at work.")
            case "tok_declined" | "tok_lost_before":
                self.kept[key] = asked.body, _refusal(402, "card_error", "Your card was declined.")
                return self.kept[key][1]
        charge = {"id": f"ch_{len(self.charges) + 1}", "amount": int(form["amount"]), "currency": form["currency"]}
        charge |= {"reference": form["reference"], "metadata": {"order": form["metadata[order]"]}}
        self.charges.append(charge)
        self.kept[key] = asked.body, Answer(body=charge, headers={"Request-Id": f"req_{len(self.charges)}"})
        return Answer(drop=True) if card.startswith("tok_lost") else self.kept[key][1]


class ChatApi:
    """Answers from a script, one after the other, once the request is as it should be."""

    def __init__(self, secret: str, *answers: Answer) -> None:
        self.secret = secret
        self.answers = list(answers)

    def __call__(self, asked: Asked) -> Answer:
        if asked.headers.get("x-api-key") != self.secret or asked.headers.get("chat-version") is None:
            return _refusal(401, "authentication_error", "invalid x-api-key")
        if (asked.method, asked.path) != ("POST", "/v1/messages") or not asked.json["messages"]:
            return _refusal(400, "invalid_request_error", "messages: at least one is needed")
        return self.answers.pop(0)


def said(text: str) -> Answer:
    """A chat API's good answer."""
    body = {
        "id": "msg_1",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 9, "output_tokens": 3},
    }
    return Answer(body=body, headers={"Request-Id": "req_1"})


def _refusal(status: int, kind: str, message: str) -> Answer:
    return Answer(status=status, body={"error": {"type": kind, "message": message}})


def refusal(status: int, kind: str, message: str, **headers: str) -> Answer:
    """An error as these APIs tell it."""
    return Answer(status=status, body={"error": {"type": kind, "message": message}}, headers=headers)


class Bureau:
    """XML over TLS with client certificates; always 200. What happens to an enquiry is decided by the name in it."""

    def __init__(self, folder: Path) -> None:
        self.record: list[str] = []  # references of enquiries that were carried out
        self.callers: list[str] = []
        self.authority = trustme.CA()
        certificates = folder / "certs"
        certificates.mkdir()
        self.authority.cert_pem.write_to_path(certificates / "bureau-ca.pem")
        ours = self.authority.issue_cert(common_name="a-lender")
        ours.cert_chain_pems[0].write_to_path(certificates / "client.pem")
        ours.private_key_pem.write_to_path(certificates / "client.key")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.issue_cert("localhost").configure_cert(context)
        self.authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        self.server = _Server(("127.0.0.1", 0), _Desk)
        self.server.bureau = self
        self.server.context = context
        self.url = f"https://localhost:{self.server.server_address[1]}/xml"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    bureau: Bureau
    context: ssl.SSLContext

    def finish_request(self, request: Any, client_address: Any) -> None:
        with contextlib.suppress(OSError), self.context.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)


class _Desk(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        bureau = self.server.bureau
        subject: Any = dict(part[0] for part in self.connection.getpeercert()["subject"])
        bureau.callers.append(subject["commonName"])
        enquiry = ET.fromstring(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.headers["Content-Type"].startswith("application/xml")
        name, reference = enquiry.findtext("Person/Name"), enquiry.findtext("Reference") or ""
        match name:
            case "Nobody":
                self._say("<Status>NO_RECORD</Status><Reason>Nobody is known by this name.</Reason>")
            case "Patience" if len(bureau.callers) == 1:
                self._say("<Status>BUSY</Status>")
            case "Stranger":
                self._say("<Status>CONTRACT</Status><Reason>The contract has ended.</Reason>")
            case "Oddity":
                self._say("<Status>MAINTENANCE</Status>")
            case "Bomb":
                self._say("<Status>OK</Status>", '<!DOCTYPE x [<!ENTITY a "aaaa">]>')
            case _:
                bureau.record.append(reference)
                if name == "Lost":
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
                    self.connection.close()
                    self.close_connection = True
                else:
                    self._report(reference)

    def do_GET(self) -> None:
        reference = parse_qs(self.path.partition("?")[2])["reference"][0]
        if reference in self.server.bureau.record:
            self._report(reference)
        else:
            self._say("<Status>NO_RECORD</Status>")

    def _report(self, reference: str) -> None:
        self._say(
            f"<Status>OK</Status><Report><Number>{reference}</Number><Score>640</Score><Debt>1</Debt><Debt>2</Debt></Report>"
        )

    def _say(self, inner: str, before: str = "") -> None:
        body = f"<?xml version='1.0'?>{before}<Response>{inner}</Response>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: the record is what counts."""
