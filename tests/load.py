"""Callers who never stop, and a provider that writes down what it did: to see what is lost while processes come and go."""

import http.client
import http.server
import json
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

PATIENCE_S = 30.0
EFFECTS = ("once", "keyed", "safe")


class Provider:
    """Answers POST /EFFECT with {"n": N} after `takes_s`, and counts in `done` how often it did each N."""

    def __init__(self, takes_s: float = 0.02) -> None:
        self.done: Counter[int] = Counter()
        self.takes_s = takes_s
        provider = self

        class Exchange(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                number = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["n"]
                with provider._lock:
                    provider.done[number] += 1
                time.sleep(provider.takes_s)
                body = b'{"n":%d}' % number
                try:
                    self.send_response(200)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                except OSError:  # a worker that is gone
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                """Nothing."""

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:  # likewise
                    self.close_connection = True

        class Server(http.server.ThreadingHTTPServer):
            request_queue_size = 256

        self._lock = threading.Lock()
        self._server = Server(("127.0.0.1", 0), Exchange)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE_S)


@dataclass
class Heard:
    """One call. `what` is "ok", the reason of an error, "refused" (no connection was to be had) or "lost" (it ended unanswered)."""

    number: int
    effect: str
    what: str
    executed: str = ""
    detail: Any = None


@dataclass
class Load:
    """Some callers, each with one call at a time; every third has its connection for one call only."""

    port: int
    callers: int = 6
    heard: list[Heard] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._next = 0
        self._threads = [threading.Thread(target=self._call, args=(index,), daemon=True) for index in range(self.callers)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive(), "a caller still waits for its answer"

    def more(self, count: int) -> None:
        """Wait until so many calls more have been answered well."""
        self.until(self.ok + count)

    def until(self, count: int) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.ok < count:
            assert time.monotonic() < deadline, f"only {self.ok} of {count} went well; the last: {self.heard[-5:]}"
            time.sleep(0.01)

    @property
    def ok(self) -> int:
        return sum(heard.what == "ok" for heard in list(self.heard))

    @property
    def bad(self) -> list[Heard]:
        """What did not go well."""
        return [heard for heard in list(self.heard) if heard.what != "ok"]

    def _call(self, index: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        while not self._stop.is_set():
            with self._lock:
                number = self._next
                self._next += 1
            heard = self._one(connection, number, EFFECTS[number % 3])
            if index % 3 == 0 or heard.what in ("refused", "lost"):
                connection.close()
            self.heard.append(heard)
            if heard.what != "ok":
                time.sleep(0.02)
        connection.close()

    def _one(self, connection: http.client.HTTPConnection, number: int, effect: str) -> Heard:
        body = {"jsonrpc": "2.0", "id": number, "method": f"a.{effect}", "params": {"n": number}}
        try:
            connection.request("POST", "/rpc", json.dumps(body), {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
        except ConnectionRefusedError:
            return Heard(number, effect, "refused")
        except (OSError, http.client.HTTPException) as error:
            return Heard(number, effect, "lost", "unknown", repr(error))
        if "result" in answer:
            assert (answer["id"], answer["result"]) == (number, {"n": number}), "it was answered with another's result"
            return Heard(number, effect, "ok", "yes")
        data = answer["error"]["data"]
        return Heard(number, effect, data["reason"], data["executed"], answer["error"])


def check(load: Load, provider: Provider) -> None:
    """What has to hold whatever happened: nothing twice, and no false word about it."""
    numbers = Counter(heard.number for heard in load.heard)
    assert set(numbers.values()) <= {1}
    for heard in load.heard:
        times = provider.done[heard.number]
        if heard.what == "ok":
            assert times >= 1, heard
        if heard.executed == "no" or heard.what == "refused":
            assert times == 0, heard
        if heard.effect == "once":
            assert times <= 1, heard
