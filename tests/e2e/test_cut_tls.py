"""TLS on the way to the provider, cut at the bytes of handshake, records and end: the plaintext the provider got is the witness."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from tests.cutting import Cut
from tests.e2e.callers import Heard, call_all, judge
from tests.e2e.counting import CountingProvider, Cutter
from tests.serving import Serving

HOUSE = """
[gateway]
anonymous = ["*"]
deadline = { default = "10s", max = "20s" }
[providers.acme]
base_url = "https://localhost:{port}"
in_flight_max = 1000
timeout = { connect = "1s" }
retry = { attempts_max = 1 }
breaker = { window = "1s", calls_min = 1000000, failure_ratio = 1.0, open_for = "1s" }
tls = { ca = "ca.pem" }
[methods."once.it"]
provider = "acme"
request = "POST /once/{n}"
body = "=params"
"""


@contextmanager
def cut_tls(folder: Path, cuts: list[Cut], version: ssl.TLSVersion) -> Iterator[tuple[Serving, CountingProvider]]:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.maximum_version = version
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    provider = CountingProvider(context)
    up, loops, over, ports = threading.Event(), [], asyncio.Event(), []

    async def main() -> None:
        loops.append(asyncio.get_running_loop())
        async with Cutter(await provider.start(), iter(cuts)) as cutter:
            ports.append(cutter.port)
            up.set()
            await over.wait()
        provider.server.close()
        await provider.server.wait_closed()

    thread = threading.Thread(target=asyncio.run, args=(main(),), daemon=True)
    thread.start()
    assert up.wait(10)
    try:
        with Serving(HOUSE.replace("{port}", str(ports[0])), folder) as homing:
            yield homing, provider
    finally:
        loops[0].call_soon_threadsafe(over.set)
        thread.join(10)


def judge_all(heard: list[Heard], provider: CountingProvider) -> None:
    for each in heard:
        judge(each)
        number = each.params["n"]
        assert provider.done[number] <= 1
        if provider.got[number]:
            assert each.executed != "no", each
        if each.ok:
            assert provider.done[number] == 1
            assert each.body["result"] == {"n": number}


@pytest.mark.parametrize(
    ("version", "how"),
    [
        (ssl.TLSVersion.TLSv1_2, "reset"),
        (ssl.TLSVersion.TLSv1_3, "reset"),
        (ssl.TLSVersion.TLSv1_3, "close"),
        (ssl.TLSVersion.TLSv1_3, "stop"),
    ],
)
def test_a_cut_within_tls_never_makes_a_false_no(version: ssl.TLSVersion, how, tmp_path: Path) -> None:
    step = {"reset": 4, "close": 6, "stop": 9}[how]
    cuts = [Cut("request", at, how) for at in range(0, 1000, step)] + [
        Cut("response", at, how) for at in range(0, 2600, step * 3)
    ]
    timeout = 1.5 if how == "stop" else 8.0
    with cut_tls(tmp_path, cuts, version) as (homing, provider):
        heard = asyncio.run(
            call_all(homing.port, [("once.it", {"n": 100_000 + number}, timeout) for number in range(len(cuts))], at_once=60)
        )
        homing.stop_soon()
        homing.join()
    judge_all(heard, provider)
    said = {each.executed for each in heard}
    assert said == {"no", "unknown", "yes"}, "the cuts did not fall everywhere"
