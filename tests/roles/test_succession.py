"""`succession`: a program that is exchanged while its process goes on."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading

import msgspec

from homing.roles.children import Known
from homing.roles.succession import VARIABLE, Estate, hold_signals, inherited, release_signals
from tests.loops import on_both_loops, until

KNOWN = Known("worker", 1, 7, 4711, "/run/worker-7", 12.5)

# Its first life leaves itself a listening socket, a pipe and a child; its second tells what it found.
PROGRAM = """
import asyncio, json, os, signal, socket, sys, time
from homing.roles.children import Known
from homing.roles.succession import Estate, bequeath, hold_signals, inherited
estate = inherited(os.environ, os.getpid())
if estate is None:
    sock = socket.create_server(("127.0.0.1", 0))
    child = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", "import time; time.sleep(60)"])
    known = Known("worker", 1, 7, child, "", 12.5)
    print(sock.getsockname()[1], flush=True)
    sys.stdin.readline()
    asyncio.run(hold_signals())
    bequeath(Estate(os.getpid(), "run", {"gateway": [sock.fileno()]}, {}, {"worker": os.pipe()}, [(known, False)]))
report = {
    "argv": sys.argv[1:],
    "held": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    "inheritable": [os.get_inheritable(fd) for fd in estate.descriptors],
    "left": "HOMING_SUCCESSION" in os.environ,
}
child = estate.children[0][0].pid
os.kill(child, signal.SIGTERM)
report["child"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
os.write(estate.pipes["worker"][1], b"x")
report["pipe"] = os.read(estate.pipes["worker"][0], 1).decode()
sock = socket.socket(fileno=estate.sockets["gateway"][0])
caller, _ = sock.accept()
caller.sendall(json.dumps(report).encode())
"""


def test_a_process_goes_on_under_another_program() -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "serve", "--processes", "2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert first.stdout is not None
    assert first.stdin is not None
    with first.stdout, first.stdin:
        port = int(first.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), timeout=30) as caller:  # before anybody accepts
            first.stdin.write(b"go on\n")
            first.stdin.flush()
            report = json.loads(caller.makefile("rb").read())
    assert first.wait(30) == 0
    assert report == {
        "argv": ["serve", "--processes", "2"],
        "held": 4,
        "inheritable": [False] * 3,
        "left": False,
        "child": -signal.SIGTERM,
        "pipe": "x",
    }


@on_both_loops
async def test_what_had_come_before_signals_are_held_is_heeded_and_what_comes_then_waits() -> None:
    heeded: list[str] = []
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, heeded.append, "SIGTERM")
    loop.add_signal_handler(signal.SIGHUP, heeded.append, "SIGHUP")
    try:
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        await hold_signals()
        assert heeded == ["SIGTERM"]
        signal.pthread_kill(threading.get_ident(), signal.SIGHUP)
        await asyncio.sleep(0.02)
        assert heeded == ["SIGTERM"]
        assert signal.SIGHUP in signal.sigpending()
    finally:
        release_signals()
        await until(lambda: len(heeded) == 2)
        loop.remove_signal_handler(signal.SIGTERM)
        loop.remove_signal_handler(signal.SIGHUP)


def test_what_another_process_left_is_not_taken() -> None:
    estate = Estate(4711, "run", {}, {}, {"broker": (100, 101)}, [(KNOWN, True)])
    environ = {VARIABLE: msgspec.json.encode(estate).decode(), "PATH": "p"}
    assert inherited(environ, 4712) is None
    assert environ == {"PATH": "p"}
    assert inherited(environ, 4711) is None


def test_what_was_left_comes_back_as_it_was() -> None:
    mine, theirs = os.pipe()
    estate = Estate(4711, "run", {"gateway": [mine]}, {"broker": ["tcp://*:1"]}, {"broker": (mine, theirs)}, [(KNOWN, True)])
    assert inherited({VARIABLE: msgspec.json.encode(estate).decode()}, 4711) == estate
    os.close(mine)
    os.close(theirs)
