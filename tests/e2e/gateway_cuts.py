"""Calls by `Client` and `AsyncClient` whose way to the gateway is cut somewhere, and what must hold of what they raise."""

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from homing import AsyncClient, CallError, Client, Executed, NotExecuted, OutcomeUnknown

REQUEST_BYTES = 400
RESPONSE_BYTES = 350
STOP_S = 1.5  # long enough to get through to the gateway on a machine that is busy
AT_ONCE = 200

HOUSE = """
[gateway]
anonymous = ["*"]
deadline = { default = "10s", max = "20s" }
%s
[providers.acme]
base_url = "{provider}"
in_flight_max = 1000
[methods."once.it"]
provider = "acme"
request = "POST /once"
"""

Params = dict[str, object]
Ended = list[tuple[Params, object]]


def cuts(way: str, length: int, how: str, step: int = 1) -> list[Params]:
    return [{"n": number, "gate": f"gate={way}:{at}:{how}"} for number, at in enumerate(range(0, length, step))]


def ask_blocking(port: int, asked: list[Params], timeout: float) -> Ended:
    with Client(f"http://127.0.0.1:{port}", timeout=timeout) as client, ThreadPoolExecutor(AT_ONCE) as pool:

        def one(params: Params) -> tuple[Params, object]:
            try:
                return params, client.call("once.it", params)
            except CallError as error:
                return params, error

        return list(pool.map(one, asked))


def ask_async(port: int, asked: list[Params], timeout: float) -> Ended:
    async def main() -> Ended:
        ended: Ended = []
        waiting = iter(asked)
        async with AsyncClient(f"http://127.0.0.1:{port}", timeout=timeout) as client:

            async def some() -> None:
                for params in waiting:
                    try:
                        ended.append((params, await client.call("once.it", params)))
                    except CallError as error:
                        ended.append((params, error))

            await asyncio.gather(*(some() for _ in range(AT_ONCE)))
        return ended

    return asyncio.run(main())


def judge_all(ended: Ended, done: Counter[int]) -> None:
    """Called when the process has stopped: nothing is done after this."""
    for params, result in ended:
        number = params["n"]
        assert isinstance(number, int)
        assert done[number] <= 1
        if isinstance(result, NotExecuted):
            assert not done[number], (params, result)
        elif isinstance(result, OutcomeUnknown):
            assert result.retry == "unsafe"
        elif isinstance(result, Executed):  # the head came, and said so
            assert done[number] == 1
        else:
            assert result == {"n": number}, (params, result)
            assert done[number] == 1
