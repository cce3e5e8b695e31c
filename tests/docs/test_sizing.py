"""What the page about sizing says of memory and of limits."""

import os
import re
import tracemalloc

from homing.core.broker import Broker, BrokerLimits
from homing.core.machine import Received
from homing.core.messages import Hello, Request
from tests.docs.pages import DOCS

PAGE = (DOCS / "how-to" / "sizing.md").read_text(encoding="utf-8")
CALLS, BODY_BYTES = 5_000, 200


def test_a_call_in_a_queue_takes_about_a_kilobyte_and_its_params() -> None:
    assert "About 1 KB, and the bytes of its params" in PAGE
    broker = Broker(os.urandom(16), BrokerLimits(queue_length_max=CALLS, no_worker_after_s=60.0), heartbeat_s=1.0)
    gateway = os.urandom(16)
    broker.handle(Received(b"gateway", Hello(gateway)), 0.0)
    tracemalloc.start()
    for number in range(CALLS):
        request = Request(
            gateway[:8] + os.urandom(8),
            "acme",
            "acme.charge",
            60_000,
            "once",
            "webshop",
            f"order-{number:026d}",
            0,
            "no",
            "",
            os.urandom(BODY_BYTES),
        )
        broker.handle(Received(b"gateway", request), 0.0)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert broker.queued("acme") == CALLS
    assert held / CALLS - BODY_BYTES < 1200


def test_the_limits_are_those_of_the_configuration() -> None:
    made = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")
    table = PAGE.partition("| limit | holds for |")[2].partition("\n\n")[0]
    named = re.findall(r"`(gateway|broker|worker|providers\.NAME|principals\.NAME)\.([a-z_]+)`", table)
    assert len(named) > 8
    for section, key in named:
        part = made.partition(f"## `[{section}]`\n")[2].partition("\n## ")[0]
        assert re.search(rf"^\| `{key}[`.]", part, re.MULTILINE), f"{section}.{key}"
