"""Configurations and providers that the tests of the whole share."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.surgeon import Surgeon, surgery
from tests.serving import Answer, Asked, Provide, Serving

HOUSE = """
[gateway]
anonymous = ["*"]
deadline = { default = "10s", max = "20s" }

[providers.acme]
base_url = "http://127.0.0.1:{port}"
in_flight_max = 1000
breaker = { window = "1s", calls_min = 1000000, failure_ratio = 1.0, open_for = "1s" }

[methods."once.it"]
provider = "acme"
request = "POST /once"

[methods."keyed.it"]
provider = "acme"
effect = "keyed"
idempotency_key = { header = "Idempotency-Key", lifetime = "1h" }
request = "POST /keyed"

[methods."safe.it"]
provider = "acme"
effect = "safe"
request = "POST /safe"

[methods."found.it"]
provider = "acme"
request = "POST /once"
body = "=params"
lookup = { request = "GET /lookup", query = { n = "=params.n", look = "=params.look" }, found = "body.found", reserve = "300ms" }
[methods."found.it".params]
additionalProperties = true
"""


class Ledger:
    """A provider that writes down what it did, before it says so."""

    def __init__(self) -> None:
        self.done: Counter[int] = Counter()

    def __call__(self, asked: Asked) -> Answer:
        if asked.path == "/lookup":
            number = int(asked.query.partition("n=")[2].partition("&")[0])
            return Answer(body={"found": {"n": number} if number in self.done else None})
        number = asked.json["n"]
        self.done[number] += 1
        return Answer(body={"n": number})


@contextmanager
def cut_house(folder: Path, provide: Provide, text: str = HOUSE) -> Iterator[tuple[Serving, Surgeon]]:
    """A process whose provider is asked through a surgeon."""
    with surgery() as surgeon, Serving(text.replace("{port}", str(surgeon.port)), folder, provide) as homing:
        surgeon.to = homing.provider.port
        yield homing, surgeon
