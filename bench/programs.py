"""The programs under measurement, each on one core, and the nginx that plays the provider on the other."""

import contextlib
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

HERE = Path(__file__).parent
CONNECTIONS = (1, 64, 512)
PROGRAM_CORE, LOAD_CORE = 0, (os.cpu_count() or 1) - 1
KEY = "hk_" + "b" * 43
BODY = b'{"jsonrpc":"2.0","id":1,"method":"acme.charge","params":{"account":"a1","amount":1200}}'
ANSWER = '{"id":"ch_123456","account":"a1","amount":1200,"status":"succeeded"}'

PASSING = 'location /rpc { proxy_pass http://provider/charges; proxy_http_version 1.1; proxy_set_header Connection ""; }'
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log crit;
events {{ worker_connections 30000; }}
worker_rlimit_nofile 60000;
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3; uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  upstream provider {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ default_type application/json; return 200 '{answer}'; }}
    {passing}
  }}
}}
"""

HOMING = """
[gateway]
listen = "127.0.0.1:{port}"
[admin]
listen = "127.0.0.1:{admin}"
[principals.bench]
api_key_hash = "sha256:{hash}"
methods = ["acme.*"]
rate = {{ limit = 1000000, per = "1s" }}
in_flight_max = 20000
[providers.acme]
base_url = "{provider}"
in_flight_max = 10000
[worker]
credit = 2000
[methods."acme.charge"]
provider = "acme"
request = "POST /charges"
[methods."acme.charge".params]
required = ["account", "amount"]
additionalProperties = false
properties.account.type = "string"
properties.amount = {{ type = "integer", minimum = 1 }}
"""


class Program(msgspec.Struct):
    """A running program: its process, where it listens, how long it took to, and what else belongs to it."""

    name: str
    process: subprocess.Popen[bytes]
    port: int
    start_s: float
    beside: "tuple[Program, ...]" = ()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_s(self) -> float:
        """Seconds of processor used so far, by it and its children."""
        ticks = sum(_ticks(pid) for pid in _family(self.process.pid))
        return ticks / os.sysconf("SC_CLK_TCK") + sum(each.cpu_s() for each in self.beside)

    def rss_kb(self) -> float:
        """Resident memory."""
        total = 0.0
        for pid in _family(self.process.pid):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS:"):
                    total += float(line.split()[1])
        return total


def _family(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _family(int(child)))]


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody takes connections there. One that is connected to itself, as chance will have it, is nobody."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1) as probe:
        return bool(probe.getsockname() != probe.getpeername())
    return False


def reachable(port: int, patience_s: float = 30.0) -> None:
    """Until somebody takes connections there."""
    until = time.monotonic() + patience_s
    while True:
        if listens(port):
            return
        if time.monotonic() > until:
            raise SystemExit(f"nobody listens on port {port}")
        time.sleep(0.01)


@contextlib.contextmanager
def running(name: str, command: list[str], port: int, core: int | None, **popen: Any) -> Iterator[Program]:
    """A program pinned to a core (None: to none), from the moment it takes connections until the block ends."""
    began = time.monotonic()
    popen.setdefault("stderr", subprocess.DEVNULL)
    process = subprocess.Popen([*on_core(core), *command], stdout=subprocess.DEVNULL, **popen)
    try:
        while True:
            if listens(port):
                break
            if process.poll() is not None or time.monotonic() - began > 30:
                raise SystemExit(f"{name} did not start: {' '.join(command)}")
            time.sleep(0.005)
        yield Program(name, process, port, time.monotonic() - began)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def on_core(core: int | None) -> list[str]:
    """The beginning of a command that runs there."""
    return [] if core is None else ["taskset", "-c", str(core)]


def nginx(folder: Path, *, core: int | None, upstream: int = 0) -> contextlib.AbstractContextManager[Program]:
    """A provider that answers at once, or, with `upstream`, a plain proxy before one."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    passing = PASSING if upstream else ""
    config.write_text(NGINX.format(folder=folder, port=port, upstream=upstream or 1, answer=ANSWER, passing=passing))
    program = shutil.which("nginx", path=os.environ["PATH"] + ":/usr/sbin") or "nginx"
    return running("nginx", [program, "-c", str(config)], port, core)


def homing(folder: Path, provider: str) -> contextlib.AbstractContextManager[Program]:
    """Homing in one process, everything on: key, schema, limits, deadlines, claims, a log line a call."""
    port = free_port()
    config = write_config(folder, port, provider)
    return running("homing", [*homing_command(), "serve", "--config", str(config)], port, PROGRAM_CORE)


def homing_command() -> list[str]:
    """The beginning of every command of homing's."""
    return [str(Path(sys.executable).parent / "homing")]


def write_config(folder: Path, port: int, provider: str) -> Path:
    """A configuration with everything on; whoever has a part in it finds it there."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    config = folder / "homing.toml"
    config.write_text(HOMING.format(port=port, admin=free_port(), hash=digest, provider=provider))
    return config


def fastapi(client: str, provider: str) -> contextlib.AbstractContextManager[Program]:
    """FastAPI under uvicorn with httptools and uvloop, one process, no access log."""
    port = free_port()
    python = HERE.parent / ".venv-bench" / "bin" / "python"
    command = [
        str(python),
        "-m",
        "uvicorn",
        f"peer_fastapi_{client}:app",
        "--port",
        str(port),
        "--no-access-log",
        "--log-level",
        "error",
    ]
    environ = {**os.environ, "PROVIDER": provider}
    return running(f"FastAPI + {client}", command, port, PROGRAM_CORE, cwd=HERE, env=environ)
