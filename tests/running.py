"""`homing serve` as a process of its own, as an operator starts it."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.serving import Reply

HOMING = [sys.executable, "-c", "from homing.cli import main; main()"]
ANY_PORT = '[gateway]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n'


def homing(*arguments: str, cwd: Path, timeout: float = 30, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    return subprocess.run(
        [*HOMING, *arguments],
        cwd=cwd,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


class Running:
    """`homing serve` with the `homing.toml` of a folder. `log` grows while it runs."""

    def __init__(self, folder: Path, text: str = "", *, arguments: Sequence[str] = (), **environ: str) -> None:
        if text:
            (folder / "homing.toml").write_text(text)
        self.log: list[dict[str, Any]] = []
        self._process = subprocess.Popen(
            [*HOMING, "serve", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **environ},
        )
        assert self._process.stderr is not None
        first = self._process.stderr.readline()
        if not first.startswith(b"{"):
            rest = self._process.stderr.read()
            self._process.stderr.close()
            raise AssertionError((first + rest).decode())
        listening = json.loads(first)
        self.port, self.admin_port = (int(each) for each in re.findall(r":(\d+)", listening["message"]))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self.wait()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/rpc"

    def terminate(self) -> None:
        self._process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Until it has left; its exit code."""
        code = self._process.wait(30)
        self._reader.join(10)
        return code

    def rss_bytes(self) -> int:
        """What it holds of the machine's memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")

    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

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

    def call(self, method: str, params: Any = None, **headers: str) -> Reply:
        body: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": method}
        if params is not None:
            body["params"] = params
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", "/rpc", json.dumps(body).encode(), {"Content-Type": "application/json", **named})

    def verbose(self) -> Any:
        """What `/readyz?verbose` says."""
        return self.request("GET", "/readyz?verbose", port=self.admin_port).json

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with contextlib.suppress(ValueError):
                self.log.append(json.loads(line))
        self._process.stderr.close()

    def faults(self) -> list[dict[str, Any]]:
        """Log lines that tell of something broken inside."""
        return [line for line in self.log if line.get("level") in ("error", "critical") or line.get("event") in ("fault", "log")]
