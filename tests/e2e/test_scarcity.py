"""What there may be too little of: descriptors, and somebody to read the log."""

import asyncio
import json
import os
import resource
import socket
import subprocess
import time
from collections import Counter
from pathlib import Path

from tests.e2e.callers import call_all
from tests.e2e.quirks import QuirkyProvider, on_a_thread
from tests.running import HOMING, Running

HOUSE = """
[gateway]
listen = "127.0.0.1:{port}"
anonymous = ["*"]
deadline = { default = "5s", max = "20s" }
timeout = { idle = "1s" }
[admin]
listen = "127.0.0.1:0"
[providers.acme]
base_url = "{provider}"
timeout = { connect = "1s" }
[methods."once.it"]
provider = "acme"
request = "POST /once"
"""


def house(provider: QuirkyProvider, port: int = 0) -> str:
    return HOUSE.replace("{provider}", f"http://127.0.0.1:{provider.port}").replace("{port}", str(port))


def test_a_process_without_descriptors_recovers(tmp_path: Path) -> None:
    """More callers than it has descriptors for: whoever is answered is answered truly, and afterwards all is well again."""
    with on_a_thread(QuirkyProvider()) as provider, Running(tmp_path, house(provider)) as homing:
        soft = homing.descriptors() + 40
        resource.prlimit(homing.pid, resource.RLIMIT_NOFILE, (soft, soft))
        callers = []
        for number in range(120):
            caller = socket.create_connection(("127.0.0.1", homing.port), 10)
            body = json.dumps({"jsonrpc": "2.0", "id": number, "method": "once.it", "params": {"n": number}}).encode()
            caller.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            callers.append(caller)
        said: Counter[str] = Counter()
        for number, caller in enumerate(callers):
            caller.settimeout(3.0)
            try:
                answer = caller.recv(65536)
            except (TimeoutError, ConnectionResetError):
                answer = b""
            assert provider.seen[number] <= 1
            if answer:
                body = json.loads(answer.partition(b"\r\n\r\n")[2])
                assert body["id"] == number
                if "error" in body:
                    said[body["error"]["data"]["executed"]] += 1
                    assert body["error"]["data"]["executed"] == "no" or provider.seen[number] <= 1
                    if body["error"]["data"]["executed"] == "no":
                        assert not provider.seen[number], body
                else:
                    said["ok"] += 1
            caller.close()
        until = time.monotonic() + 15
        while homing.verbose()["connections"]:
            assert time.monotonic() < until
            time.sleep(0.05)
        heard = asyncio.run(call_all(homing.port, [("once.it", {"n": 1000 + number}, 5.0) for number in range(20)], at_once=2))
        assert all(each.ok for each in heard)
        homing.terminate()
        assert homing.wait() == 0


def test_a_log_that_nobody_reads_holds_up_no_call(tmp_path: Path) -> None:
    with on_a_thread(QuirkyProvider()) as provider, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        (tmp_path / "homing.toml").write_text(house(provider, port))
        reading, writing = os.pipe()
        process = subprocess.Popen([*HOMING, "serve"], cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=writing)
        os.close(writing)
        try:
            assert b"listening" in os.read(reading, 4096)
            heard = asyncio.run(call_all(port, [("once.it", {"n": number}, 10.0) for number in range(2000)], at_once=20))
            assert all(each.ok for each in heard)
            process.terminate()
            assert process.wait(15) == 0
        finally:
            if process.poll() is None:
                process.kill()
            os.close(reading)


def test_a_log_whose_reader_has_gone_holds_up_no_call(tmp_path: Path) -> None:
    with on_a_thread(QuirkyProvider()) as provider, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        (tmp_path / "homing.toml").write_text(house(provider, port))
        process = subprocess.Popen([*HOMING, "serve"], cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        assert process.stderr is not None
        try:
            assert b"listening" in process.stderr.readline()
            process.stderr.close()
            heard = asyncio.run(call_all(port, [("once.it", {"n": number}, 10.0) for number in range(300)], at_once=20))
            assert all(each.ok for each in heard)
            process.terminate()
            assert process.wait(15) == 0
        finally:
            if process.poll() is None:
                process.kill()
