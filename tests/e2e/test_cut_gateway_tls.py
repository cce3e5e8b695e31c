"""TLS between a client and the gateway, cut within handshake, records and end: what is raised is held against what was done."""

import asyncio
import threading
from pathlib import Path

import pytest
import trustme

from homing import AsyncClient, CallError, Client, NotExecuted
from tests.cutting import Cut
from tests.e2e.counting import Cutter
from tests.e2e.gateway_cuts import Ended, judge_all
from tests.e2e.houses import Ledger
from tests.e2e.quirks import on_a_thread
from tests.serving import Serving

HOUSE = """
[gateway]
anonymous = ["*"]
deadline = { default = "10s", max = "20s" }
tls = { cert = "server.pem", key = "server.pem" }
[providers.acme]
base_url = "{provider}"
in_flight_max = 1000
[methods."once.it"]
provider = "acme"
request = "POST /once"
"""


class Cuts:
    """A cutting proxy, as something that starts and stops."""

    def __init__(self, to: int, cuts: list[Cut]) -> None:
        self._cutter = Cutter(to, iter(cuts))

    async def start(self) -> None:
        await self._cutter.__aenter__()
        self.port = self._cutter.port

    async def stop(self) -> None:
        await self._cutter.__aexit__()


def ask_blocking(url: str, ca: str, count: int, timeout: float) -> Ended:
    ended: Ended = []
    lock, numbers = threading.Lock(), iter(range(count))

    def some() -> None:
        with Client(url, ca=ca, timeout=timeout, connect_timeout=1.0, retries=0) as client:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                try:
                    result = client.call("once.it", {"n": number})
                except CallError as error:
                    result = error
                ended.append(({"n": number}, result))

    threads = [threading.Thread(target=some) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return ended


def ask_async(url: str, ca: str, count: int, timeout: float) -> Ended:
    ended: Ended = []

    async def main() -> None:
        numbers = iter(range(count))
        async with AsyncClient(url, ca=ca, timeout=timeout, connect_timeout=1.0, retries=0) as client:

            async def some() -> None:
                for number in numbers:
                    try:
                        ended.append(({"n": number}, await client.call("once.it", {"n": number})))
                    except CallError as error:
                        ended.append(({"n": number}, error))

            await asyncio.gather(*(some() for _ in range(30)))

    asyncio.run(main())
    return ended


@pytest.mark.parametrize("ask", [ask_blocking, ask_async])
@pytest.mark.parametrize("how", ["reset", "close", "stop"])
def test_a_cut_within_tls_never_raises_a_false_not_executed(how, ask, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    step = {"reset": 6, "close": 9, "stop": 21}[how]
    cuts = [Cut("request", at, how) for at in range(0, 1100, step)] + [
        Cut("response", at, how) for at in range(0, 2800, step * 2)
    ]
    ledger = Ledger()
    with Serving(HOUSE, tmp_path, ledger) as homing:
        with on_a_thread(Cuts(homing.port, cuts)) as proxy:
            ended = ask(f"https://localhost:{proxy.port}", str(tmp_path / "ca.pem"), len(cuts), 1.2 if how == "stop" else 8.0)
        homing.stop_soon()
        homing.join()
    assert len(ended) == len(cuts)
    judge_all(ended, ledger.done)
    assert any(isinstance(result, NotExecuted) for _, result in ended)
    assert any(isinstance(result, dict) for _, result in ended)
