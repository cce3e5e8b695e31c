"""A gateway that does what a test tells it, over real sockets; and both clients behind one face, so that each test runs on both."""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from homing import AsyncClient, CallError, Client
from homing.client import BatchItem


@dataclass
class Request:
    """One request as the gateway read it."""

    raw: bytes
    head: bytes
    body: bytes

    def header(self, name: str) -> str | None:
        for line in self.head.decode("latin-1").split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return str(self.json["id"])


class Visit:
    """One connection to the scripted gateway."""

    def __init__(self, gateway: "ScriptedGateway", sock: socket.socket) -> None:
        self.gateway = gateway
        self.sock = sock
        self._buffer = b""

    def request(self) -> Request | None:
        """Read one request to its end; None when the client closed first."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return None
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        request = Request(b"", head, b"")
        length = int(request.header("content-length") or 0)
        while len(rest) < length:
            if not self._more():
                return None
            rest = self._buffer.partition(b"\r\n\r\n")[2]
        request.body = rest[:length]
        request.raw = head + b"\r\n\r\n" + request.body
        self._buffer = rest[length:]
        self.gateway.requests.append(request)
        return request

    def read(self, count: int) -> bytes:
        """Read exactly so many bytes, and leave the others unread."""
        data = b""
        while len(data) < count and (more := self.sock.recv(count - len(data))):
            data += more
        return data

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reset(self) -> None:
        """Close with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def gone(self) -> bool:
        """Wait for the client to close; True once it has."""
        with contextlib.suppress(OSError):
            while self.sock.recv(65536):
                pass
        return True

    def _more(self) -> bool:
        try:
            data = self.sock.recv(65536)
        except OSError:
            return False
        self._buffer += data
        return bool(data)


Script = Callable[[Visit], object]


def response(body: bytes, status: int = 200, headers: Sequence[tuple[str, str]] = ()) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def result(request: Request, value: object = "done", headers: Sequence[tuple[str, str]] = ()) -> bytes:
    return response(json.dumps({"jsonrpc": "2.0", "id": request.id, "result": value}).encode(), headers=headers)


def error(
    request: Request, code: int, message: str, data: object = None, status: int = 200, headers: Sequence[tuple[str, str]] = ()
) -> bytes:
    said = {"code": code, "message": message} | ({} if data is None else {"data": data})
    return response(json.dumps({"jsonrpc": "2.0", "id": request.id, "error": said}).encode(), status, headers)


def each(answer: Callable[[Request], bytes]) -> Script:
    """Answer every request of every connection the same way."""

    def script(visit: Visit) -> None:
        while (request := visit.request()) is not None:
            visit.send(answer(request))

    return script


def in_turn(*scripts: Script) -> Script:
    """The first connection gets the first script, and so on; the last one gets all that follow."""
    left = list(scripts)
    lock = threading.Lock()

    def script(visit: Visit) -> None:
        with lock:
            mine = left.pop(0) if len(left) > 1 else left[0]
        mine(visit)

    return script


@dataclass
class ScriptedGateway:
    """Runs `script` for each connection, on a thread of its own."""

    script: Script
    tls: ssl.SSLContext | None = None
    requests: list[Request] = field(default_factory=list)
    visits: int = 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._socks: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in self._socks:
            sock.close()

    @property
    def url(self) -> str:
        return f"{'http' if self.tls is None else 'https'}://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.visits += 1
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self.tls is not None:
                try:
                    sock = self.tls.wrap_socket(sock, server_side=True)
                except OSError:
                    sock.close()
                    raise
            self._socks.append(sock)
            self.script(Visit(self, sock))
        sock.close()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class Either:
    """`Client` or `AsyncClient`, called the same way."""

    def __init__(self, kind: str, url: str | Sequence[str] | None, **options: Any) -> None:
        self._runner = asyncio.Runner() if kind == "asyncio" else None
        self.client: Any = (Client if self._runner is None else AsyncClient)(url, **options)

    def call(self, method: Any, params: object = None, **options: object) -> Any:
        return self._run(self.client.call(method, params, **options))

    def batch(self, calls: Iterable[BatchItem], **options: object) -> list[Any]:
        return self._run(self.client.batch(calls, **options))

    def notify(self, method: str, params: object = None, **options: object) -> None:
        self._run(self.client.notify(method, params, **options))

    def error(self, method: str, params: object = None, **options: object) -> Any:
        """Call, and return the CallError that must come of it."""
        try:
            got = self.call(method, params, **options)
        except CallError as caught:
            return caught
        raise AssertionError(f"there was a result: {got!r}")

    def _run(self, outcome: Any) -> Any:
        return outcome if self._runner is None else self._runner.run(outcome)

    def __enter__(self) -> Self:
        return self

    def close(self) -> None:
        self._run(self.client.close())

    def __exit__(self, *_: object) -> None:
        self.close()
        if self._runner is not None:
            self._runner.close()


@contextlib.contextmanager
def joined(
    kind: str, script: Script, tls: ssl.SSLContext | None = None, **options: object
) -> Iterator[tuple[Either, ScriptedGateway]]:
    """A client of one kind, and the gateway it calls."""
    with ScriptedGateway(script, tls) as gateway, Either(kind, gateway.url, **options) as client:
        yield client, gateway
