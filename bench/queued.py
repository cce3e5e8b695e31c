"""Memory of a broker with very many calls queued: a worker that offers room for one call and never claims it, and all others wait."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import zmq

from bench.echo_wire import BODY, Peer
from bench.programs import free_port, homing_command, running
from homing.core.messages import GATEWAY_BYTES, Hello, Ready, Reject, Request

REMAINING_MS = 300_000
AT_ONCE = 500


class Queued(msgspec.Struct):
    """So many calls, each with so many bytes of params, and what each costs the broker."""

    calls: int
    params_bytes: int
    kb_per_call: float


def queued(calls: int) -> Queued:
    """Fill the queue, and look at the broker's memory before and after."""
    port = free_port()
    url = f"tcp://127.0.0.1:{port}"
    body = b'{"text":"%b"}' % BODY.encode()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        config = Path(folder) / "homing.toml"
        config.write_text(f'[broker]\nlisten = "{url}"\nqueue_length_max = {calls + AT_ONCE}\n')
        with running("broker", [*homing_command(), "broker", "--config", str(config)], port, None) as broker:
            worker, gateway = Peer(url), Peer(url)
            worker.said.append(Ready(worker.life, {"echo": 1}, 1000))
            worker.flush()
            worker.hear()  # it is known
            head = gateway.life[:GATEWAY_BYTES]

            def ask(first: int, last: int) -> None:
                for number in range(first, last):
                    call_id = head + number.to_bytes(8, "big")
                    request = Request(call_id, "echo", "echo.echo", REMAINING_MS, "safe", "bench", "", 0, "no", "", body)
                    gateway.said.append(request)
                    if len(gateway.said) == AT_ONCE:
                        gateway.flush()
                gateway.flush()

            gateway.said.append(Hello(gateway.life))
            ask(0, AT_ONCE)
            settle(broker.rss_kb)
            before = broker.rss_kb()
            ask(AT_ONCE, AT_ONCE + calls)
            after = settle(broker.rss_kb)
            refused = heard_rejects(gateway)
            if refused:
                raise SystemExit(f"the broker did not take all {calls} calls: {refused}")
    return Queued(calls, len(body), round((after - before) / calls, 3))


def settle(rss_kb: Callable[[], float]) -> float:
    """The memory, once it grows no more."""
    last, since = rss_kb(), time.monotonic()
    while time.monotonic() - since < 3.0:
        time.sleep(0.1)
        now = rss_kb()
        if abs(now - last) > 64:
            last, since = now, time.monotonic()
    return last


def heard_rejects(gateway: Peer) -> str:
    """What the broker has refused, if anything."""
    while gateway.socket.poll(0, zmq.POLLIN):
        for message in gateway.hear():
            if isinstance(message, Reject):
                return message.message
    return ""
