"""A page, walked through as a reader would: every block done in order, in a folder of its own, and what it prints compared."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from tests.docs.pages import ROOT, Block

BIN = Path(sys.executable).parent
PORTS = (8370, 8371, 8372, 8373, 8382, 9000)  # that the documentation names; each walk has others in their places
READY_S = 20.0
RUN_S = 40.0

# What differs from one time to the next, and what stands for it.
VOLATILE = (
    (r"\b[0-9a-f]{32}\b", "<call id>"),
    (r"\bhk_[A-Za-z0-9_-]{43}", "<api key>"),
    (r"\bsha256:[0-9a-f]{64}", "<hash>"),
    (r"(?<![\w-])[A-Za-z0-9_-]{32}(?![\w-])", "<key>"),
    (r'("(?:duration_ms|started_ms|key_expires_ms|lag_ms)": ?)[0-9.]+', r"\g<1>0"),
    (r"\b[0-9.]+ ms\b", "N ms"),
    (r"\b\d{5}\.\d+s\b", "<seconds>"),
    (r"\b\d{4}-\d\d-\d\dT[0-9:.]+Z?", "<time>"),
    (r"\b\d\d:\d\d:\d\d(?:\.\d+)?\b", "<clock>"),
    (r"(?m)^Date: .*$", "Date: <date>"),
    (r"\b127\.0\.0\.1:\d{5}\b", "127.0.0.1:PORT"),
    (r"\s+$", ""),
)

_PUBLIC_KEY = re.compile(r'(?m)^public_key = "([^"]{40})"$')


def normal(text: str) -> str:
    """A text without what differs from one time to the next."""
    text = "\n".join(line.rstrip() for line in text.replace("\r\n", "\n").strip("\n").split("\n"))
    for pattern, stand_in in VOLATILE:
        text = re.sub(pattern, stand_in, text)
    return text


def differs(printed: str, said: str, *, as_json: bool) -> str | None:
    """How what was printed is not what a page says; None if it is."""
    if as_json:
        try:
            printed = json.dumps(json.loads(printed.strip().splitlines()[-1] if printed.strip() else ""), indent=1)
        except ValueError:
            try:
                printed = json.dumps(json.loads(printed), indent=1)
            except ValueError:
                return f"no JSON was printed:\n{printed}"
        said = json.dumps(json.loads(said), indent=1)
    printed, said = normal(printed), normal(said)
    pattern = "\n".join(r"(?:.*\n)*?.*" if line.strip() == "…" else re.escape(line) for line in said.split("\n"))
    if re.fullmatch(pattern, printed):
        return None
    return f"--- the page says\n{said}\n--- what was printed\n{printed}"


def free_ports(count: int) -> list[int]:
    """Ports on which nobody listens, all different, and out of the way of tests that let the kernel choose."""
    held: list[socket.socket] = []
    while len(held) < count:
        with contextlib.suppress(OSError):
            held.append(socket.create_server(("127.0.0.1", random.SystemRandom().randrange(10_000, 32_000))))
    ports: list[int] = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


class Walk:
    """A folder, a shell whose variables last from block to block, and what runs in the background."""

    def __init__(self, folder: Path, environ: dict[str, str] | None = None) -> None:
        self.folder = folder
        self.state = folder.parent / f"{folder.name}.state"
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.replaced: dict[str, str] = {}  # of addresses that only the documentation has
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.printed = ""
        here = f"127.0.0.1:{self.ports[8370]}"
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("HOMING_")},
            "PATH": f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}{os.pathsep}/usr/sbin",
            "HOMING_LISTEN": here,
            "HOMING_URL": f"http://{here}",
            "NO_COLOR": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            **(environ or {}),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.running):
            self.stop(name)

    def here(self, text: str) -> str:
        """A text of the documentation with this walk's addresses."""
        for port, own in self.ports.items():
            text = re.sub(rf"\b{port}\b", str(own), text)
        for said, own_text in self.replaced.items():
            text = text.replace(said, own_text)
        return text

    def there(self, text: str) -> str:
        """The other way round."""
        for port, own in self.ports.items():
            text = re.sub(rf"\b{own}\b", str(port), text)
        for said, own_text in self.replaced.items():
            text = text.replace(own_text, said)
        return text

    def do(self, block: Block) -> None:
        """One block. Raises AssertionError with the block's place."""
        if "output" in block.words:
            self.learn(block.text)
            wrong = differs(self.there(self.printed), block.text, as_json=block.language == "json")
            assert wrong is None, f"{block}\n{wrong}"
        elif "file" in block.words:
            self.write(block.words["file"], block.text)
        elif block.language == "sh" and "make" not in block.words:
            self.shell(block)
        elif block.language in ("python", "js"):
            self.program(block)

    def learn(self, said: str) -> None:
        """Public keys that were made just now stand for those of the page, from here on."""
        pairs = zip(_PUBLIC_KEY.findall(said), _PUBLIC_KEY.findall(self.printed), strict=False)
        self.replaced |= dict(pairs)

    def write(self, name: str, text: str) -> None:
        """A file of the page. Configurations get an admin listener of this walk's own, unless they name one."""
        text = self.here(text)
        if name.endswith("homing.toml") and "[admin]" not in text:
            text += f'\n[admin]\nlisten = "127.0.0.1:{self.ports[8371]}"\n'
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def shell(self, block: Block) -> None:
        script = self.here(block.text)
        if name := block.words.get("background"):
            self.start(name, script, int(block.words["wait"]))
            if "until" in block.words:
                self.until_said(*block.words["until"].split(":"))
            return
        before = f"source {self.state}\n" if self.state.exists() else ""
        after = f"\n{{ export -p; printf 'cd %q\\n' \"$PWD\"; }} > {self.state}\n"
        wanted = int(block.words.get("exit", "0"))
        self.run(block, ["bash", "-euo", "pipefail", "-c", before + script + (after if not wanted else "")], wanted)

    def program(self, block: Block) -> None:
        programs = {"python": [sys.executable, "-"], "js": ["node", "--input-type=module", "-"]}
        self.run(block, programs[block.language], int(block.words.get("exit", "0")), self.here(block.text))

    def run(self, block: Block, command: list[str], wanted: int, given: str | None = None) -> None:
        """Run to the end; what is printed is kept for the block that follows."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environ,
            input=(given or "").encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=RUN_S,
            check=False,
        )
        self.printed = done.stdout.decode()
        assert done.returncode == wanted, f"{block}: exit code {done.returncode}, wanted {wanted}\n{self.printed}"

    def start(self, name: str, script: str, port: int) -> None:
        """Start what goes on in another terminal, and wait until it listens. One of the same name is stopped first."""
        if name in self.running:
            self.stop(name)
        before = f"source {self.state}\n" if self.state.exists() else ""
        log = self.log_of(name)
        with log.open("ab") as file:
            self.running[name] = subprocess.Popen(
                ["bash", "-euc", f"{before}exec {script}"], cwd=self.folder, env=self.environ, stdout=file, stderr=file
            )
        until = time.monotonic() + READY_S
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.ports[port])) == 0:
                    return
            assert self.running[name].poll() is None, f"{script} ended:\n{log.read_text()}"
            assert time.monotonic() < until, f"{script} does not listen:\n{log.read_text()}"
            time.sleep(0.02)

    def log_of(self, name: str) -> Path:
        """What one in the background has said."""
        return self.folder.parent / f"{self.folder.name}.{name}.log"

    def until_said(self, name: str, words: str) -> None:
        """Wait until one in the background has said something."""
        until = time.monotonic() + READY_S
        while words not in self.log_of(name).read_text():
            assert time.monotonic() < until, f"{name} does not say {words}:\n{self.log_of(name).read_text()}"
            time.sleep(0.02)

    def stop(self, name: str) -> None:
        """As Ctrl-C does."""
        running = self.running.pop(name)
        running.send_signal(signal.SIGINT)
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait(10)
            raise

    def demo(self) -> None:
        """The demo in the background."""
        self.start("gateway", f"homing demo --listen 127.0.0.1:{self.ports[8370]} --admin 127.0.0.1:{self.ports[8371]}", 8370)

    def example(self, name: str) -> None:
        """The files of an example, as somebody would who begins with it."""
        shutil.copytree(ROOT / "examples" / name, self.folder, dirs_exist_ok=True)
