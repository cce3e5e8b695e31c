"""Gateway, broker and worker as processes of their own, as an operator starts them, each of which a test may kill and start again."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from tests.running import HOMING
from tests.serving import Reply

PATIENCE_S = 20.0


def free_port() -> int:
    """A port that nobody has now, for who must be found there again after a restart."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(happened: Callable[[], object], what: str = "") -> None:
    """Look again and again, until it is so."""
    latest = time.monotonic() + PATIENCE_S
    while not happened():
        assert time.monotonic() < latest, what or "it never happened"
        time.sleep(0.005)


class Role:
    """One process: `homing NAME ARGUMENTS`. `log` grows while it runs."""

    def __init__(self, folder: Path, *arguments: str, pass_fds: tuple[int, ...] = ()) -> None:
        self.log: list[dict[str, Any]] = []
        self.process = subprocess.Popen(
            [*HOMING, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            pass_fds=pass_fds,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            try:
                self.log.append(json.loads(line))
            except ValueError:
                self.log.append({"event": "said", "level": "error", "message": line.decode(errors="replace")})
        self.process.stderr.close()

    def said(self, event: str, within: str = "") -> dict[str, Any] | None:
        """The first line of this event with these words."""
        return next((line for line in self.log if line["event"] == event and within in line["message"]), None)

    def wait_for(self, event: str, within: str = "") -> dict[str, Any]:
        """That line, once it is there."""
        until(lambda: self.said(event, within) or self.process.poll() is not None, f"no {event} in {self.log}")
        line = self.said(event, within)
        assert line is not None, self.log
        return line

    def ports(self) -> list[int]:
        """Those of the line that says where it listens."""
        return [int(port) for port in re.findall(r":(\d+)(?=[,. ])", self.wait_for("listening")["message"])]

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Until it has left; its exit code."""
        code = self.process.wait(30)
        self._reader.join(10)
        return code

    def kill(self) -> None:
        """As the kernel does, without a word."""
        self.process.kill()
        self.wait()

    def faults(self) -> list[dict[str, Any]]:
        """Lines that tell of something broken inside."""
        return [line for line in self.log if line.get("level") in ("error", "critical") or line["event"] in ("fault", "log")]

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()


class Trio:
    """A folder with a homing.toml, and whatever processes a test starts there. `{broker}` in the text is where the broker listens."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        self.endpoint = f"tcp://127.0.0.1:{free_port()}"
        (folder / "homing.toml").write_text(text.replace("{broker}", self.endpoint))
        self._roles: list[Role] = []
        self.port = self.admin_port = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.ExitStack() as stack:
            for role in self._roles:
                stack.callback(role.close)

    def start(self, *arguments: str, pass_fds: tuple[int, ...] = ()) -> Role:
        """Start a process, and do not wait for it."""
        role = Role(self.folder, *arguments, pass_fds=pass_fds)
        self._roles.append(role)
        return role

    def broker(self, *arguments: str) -> Role:
        """Start a broker, and wait until it listens."""
        role = self.start("broker", *arguments)
        role.wait_for("listening")
        return role

    def worker(self, *arguments: str) -> Role:
        """Start a worker, and wait until it has reached the broker."""
        role = self.start("worker", *arguments)
        role.wait_for("broker", "Reached")
        return role

    def gateway(self, *arguments: str) -> Role:
        """Start a gateway, and wait until it has reached the broker."""
        role = self.start("gateway", *arguments)
        self.port, self.admin_port = role.ports()
        role.wait_for("broker", "Reached")
        return role

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, port: int = 0
    ) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()

    def call(self, method: str, params: Any, **headers: str) -> Reply:
        """One call through the gateway."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", "/rpc", body, {"Content-Type": "application/json", **named})

    def verbose(self) -> Any:
        """What the gateway's `/readyz?verbose` says."""
        return self.request("GET", "/readyz?verbose", port=self.admin_port).json


class Callers:
    """Threads that call once each; `replies` by number."""

    def __init__(self, trio: Trio, method: str, numbers: range) -> None:
        self.replies: dict[int, Reply] = {}
        self._trio, self._method = trio, method
        self._threads = [threading.Thread(target=self._one, args=(number,), daemon=True) for number in numbers]
        for thread in self._threads:
            thread.start()

    def _one(self, number: int) -> None:
        self.replies[number] = self._trio.call(self._method, {"n": number})

    def join(self) -> None:
        """Until all have been answered."""
        for thread in self._threads:
            thread.join(40)
        assert len(self.replies) == len(self._threads)
