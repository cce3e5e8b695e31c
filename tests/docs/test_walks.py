"""Every page of the documentation, done as it says."""

import logging
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, Block, blocks_of, name_of, pages
from tests.docs.terminal import Terminal
from tests.docs.walk import BIN, Walk, differs


@dataclass(frozen=True)
class Way:
    """What a page takes for granted: the demo in another terminal, an example's files, variables of the environment."""

    demo: bool = False
    example: str = ""
    environ: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = ("bash", "curl")
    before: str = ""  # what the reader has done already
    terminal: bool = False  # one shell for the whole page
    replaced: tuple[tuple[str, str], ...] = ()  # of addresses that only the page has


BEFORE_OPERATING = """
homing call demo.echo '{"text": "hello"}'
homing call demo.lost '{"account": "a1", "amount": 1200}' || true
echo '{"event":"call","method":"demo.lost","reason":"connection_lost","executed":"unknown"}' > homing.log
"""
# Answers what it was sent, a second later if that was sent to /slow; what it was asked for is in provider.log.
PROVIDER = r"""
cat > provider.py <<'END'
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        print(self.path + "\n", end="", flush=True)  # in one piece, for others print too
        time.sleep(self.path == "/slow")
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", 9000), Provider).serve_forever()
END
listens() { until (exec 3<> /dev/tcp/127.0.0.1/$1) 2> /dev/null; do sleep 0.05; done; }
python3 provider.py > provider.log 2>&1 &
listens 9000
"""
THREE = (
    PROVIDER
    + r"""
cat > homing.toml <<'END'
[gateway]
anonymous = ["bin.*"]
brokers = ["tcp://127.0.0.1:8372"]
[admin]
listen = "127.0.0.1:8371"
[broker]
listen = "tcp://127.0.0.1:8372"
[worker]
brokers = ["tcp://127.0.0.1:8372"]
[providers.bin]
base_url = "http://127.0.0.1:9000"
in_flight_max = 8
[methods."bin.slow"]
provider = "bin"
request = "POST /slow"
END
homing broker 2> broker.log &
broker=$!
homing worker 2> worker.log &
worker=$!
homing gateway 2> gateway.log &
gateway=$!
listens 8370
"""
)
WAYS: dict[str, Way] = {
    "README.md": Way(demo=True),
    "docs/tutorial/first-provider.md": Way(needs=("bash", "curl", "grep", "wc")),
    "docs/tutorial/three-processes.md": Way(terminal=True, needs=("bash", "grep")),
    "docs/how-to/curve.md": Way(terminal=True, needs=("bash", "grep"), replaced=(("broker.internal.example", "127.0.0.1"),)),
    "docs/how-to/firewall.md": Way(
        terminal=True, needs=("bash", "grep"), replaced=(("homing.example", "127.0.0.1"),), before=PROVIDER
    ),
    "docs/how-to/several-brokers.md": Way(terminal=True, needs=("bash", "grep"), before=PROVIDER),
    "docs/how-to/rolling-upgrade.md": Way(terminal=True, needs=("bash", "grep", "seq"), before=THREE),
    "docs/how-to/payments-api.md": Way(example="payments"),
    "docs/how-to/chat-completion.md": Way(example="chat"),
    "docs/how-to/xml-bureau.md": Way(example="bureau", needs=("bash", "openssl")),
    "docs/reference/http.md": Way(demo=True),
    "docs/reference/python.md": Way(demo=True),
    "docs/explanation/request-reply.md": Way(),
    "docs/how-to/python-workers.md": Way(needs=("bash", "grep")),
    "docs/how-to/api-keys.md": Way(),
    "docs/how-to/processes.md": Way(),
    "docs/how-to/majordomo.md": Way(needs=("bash",)),
    "docs/how-to/tls.md": Way(needs=("bash", "curl", "openssl")),
    "docs/how-to/operate.md": Way(demo=True, before=BEFORE_OPERATING),
    "docs/how-to/call-from-any-language.md": Way(demo=True, needs=("bash", "curl", "node")),
}


@pytest.fixture(scope="module")
def httpbin() -> Iterator[str]:
    """The address of httpbin, on this machine."""
    logging.getLogger("httpbin.core").setLevel(logging.ERROR)
    from httpbin import app
    from waitress.server import create_server

    server = create_server(app, host="127.0.0.1", port=0, threads=2, clear_untrusted_proxy_headers=True)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    server.close()
    thread.join(10)


def runs(block: Block) -> bool:
    """Whether a block does something: the others are looked at elsewhere."""
    return block.language in ("sh", "python", "js") or "file" in block.words or "output" in block.words


WALKED = [page for page in pages() if any(runs(block) for block in blocks_of(page))]


@pytest.mark.parametrize("page", WALKED, ids=name_of)
def test_the_page_can_be_walked(page: Path, tmp_path: Path, httpbin: str, needs: Callable[[str], str]) -> None:
    way = WAYS[name_of(page)]
    for program in way.needs:
        needs(program)
    folder = tmp_path / "walk"
    folder.mkdir()
    with (Terminal if way.terminal else Walk)(folder, dict(way.environ)) as walk:
        walk.replaced = {"https://httpbin.org": httpbin, **dict(way.replaced)}
        if way.example:
            walk.example(way.example)
        if way.demo:
            walk.demo()
        if way.before:
            walk.do(Block(page, 0, "sh", way.before))
        for block in blocks_of(page):
            walk.do(block)


def test_every_way_leads_to_a_page() -> None:
    assert set(WAYS) == {name_of(page) for page in WALKED}


MADE = [block for page in pages() for block in blocks_of(page) if "make" in block.words]


@pytest.mark.parametrize("block", MADE, ids=str)
def test_make_knows_what_a_page_asks_of_it(block: Block) -> None:
    targets = re.findall(r"\bmake ([a-z]+)", block.text)
    assert targets
    done = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_differs_is_seen() -> None:
    assert differs("a\nb\nc\n", "a\n…\nc", as_json=False) is None
    assert differs("a\nc", "a\nb", as_json=False)
    assert differs('{"a":1,"duration_ms":7}\n', '{"a": 1, "duration_ms": 9}', as_json=True) is None
    assert differs('{"a":1}', '{"a": 2}', as_json=True)
    assert differs("no json", "{}", as_json=True)


def test_the_programs_of_the_pages_are_there() -> None:
    assert (BIN / "homing").exists()
    assert DOCS.is_dir()
