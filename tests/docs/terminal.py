"""A page that is walked in one terminal: a shell that lasts, with jobs in the background, `$!` and `wait`."""

import os
import queue
import re
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

from tests.docs.pages import Block
from tests.docs.walk import READY_S, RUN_S, Walk

OVER = "over-and-out"
# What bash says of a job that was killed, whenever it notices: people are shown it too, in other words.
_OBITUARY = re.compile(r"(?m)^bash: line \d+: +\d+ (?:Killed|Terminated) .*\n")


class Terminal(Walk):
    """A walk whose blocks are typed into one shell. `wait=PORT` waits until somebody listens there."""

    def __init__(self, folder: Path, environ: dict[str, str] | None = None) -> None:
        super().__init__(folder, environ)
        self._bash = subprocess.Popen(
            ["bash", "--norc", "--noprofile"],
            cwd=folder,
            env=self.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        os.killpg(self._bash.pid, signal.SIGKILL)  # the shell and its jobs, which are in its group
        self._bash.wait(10)
        self._reader.join(10)
        for pipe in (self._bash.stdin, self._bash.stdout):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self._bash.stdout is not None
        for line in self._bash.stdout:
            self._lines.put(line.decode())

    def shell(self, block: Block) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.write(f"{self.here(block.text)}\nprintf '\\n{OVER} %d\\n' $?\n".encode())
        self._bash.stdin.flush()
        printed, latest = "", time.monotonic() + RUN_S
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, latest - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{block}: not over after {RUN_S} s\n{printed}{self._logs()}") from None
            if line.startswith(OVER):
                break
            printed += line
        self.printed = _OBITUARY.sub("", printed).replace(f"{self.folder}/", "")
        code, wanted = int(line.split()[1]), int(block.words.get("exit", "0"))
        assert code == wanted, f"{block}: exit code {code}, wanted {wanted}\n{self.printed}{self._logs()}"
        if port := block.words.get("wait"):
            self._until_somebody_listens(block, int(port))

    def _until_somebody_listens(self, block: Block, port: int) -> None:
        latest = time.monotonic() + READY_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.ports[port])) == 0:
                    return
            assert time.monotonic() < latest, f"{block}: nobody listens on {port}\n{self._logs()}"
            time.sleep(0.02)

    def _logs(self) -> str:
        """What those in the background have said."""
        return "\n".join(f"--- {path.name}\n{path.read_text()}" for path in sorted(self.folder.rglob("*.log")))
