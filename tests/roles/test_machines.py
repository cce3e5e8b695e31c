"""What the configuration makes of the machines, and how processes share its limits."""

from pathlib import Path

from homing import config
from homing.config import Config, Reading
from homing.core.messages import MethodOffer
from homing.roles import machines

HOUSE = """
[gateway]
in_flight_max = 10
held_bytes_max = "3MiB"
[worker]
credit = 50
[principals.shop]
api_key_hash = "sha256:{a}"
rate = { limit = 5, per = "1s" }
in_flight_max = 3
[principals.free]
api_key_hash = "sha256:{b}"
[providers.acme]
base_url = "https://acme.example"
in_flight_max = 64
rate = { limit = 600, per = "1m", burst = 50 }
[providers.beta]
base_url = "https://beta.example"
in_flight_max = 1
[methods."acme.a"]
provider = "acme"
request = "GET /a"
[methods."acme.b"]
provider = "acme"
service = "slow"
request = "GET /b"
[methods."beta.a"]
provider = "beta"
request = "GET /a"
[methods."reports.build"]
service = "reports"
""".replace("{a}", "a" * 64).replace("{b}", "b" * 64)


def house(folder: Path) -> tuple[Config, Reading]:
    (folder / "homing.toml").write_text(HOUSE)
    reading = config.read(folder / "homing.toml")
    return config.usable(reading), reading


def test_a_worker_serves_what_providers_are_asked_for(tmp_path: Path) -> None:
    read, reading = house(tmp_path)
    asked = machines.asked_methods(reading.methods)
    assert sorted(asked) == ["acme.a", "acme.b", "beta.a"]
    assert machines.credits_of(read, asked) == {"acme": 64, "slow": 64, "beta": 1}
    assert machines.credits_of(read, asked, 50) == {"acme": 50, "slow": 50, "beta": 1}
    assert sorted(machines.asked_methods(reading.methods, ["slow", "beta"])) == ["acme.b", "beta.a"]


def test_a_worker_says_what_its_methods_are(tmp_path: Path) -> None:
    (tmp_path / "homing.toml").write_text(
        HOUSE + '[methods."acme.c"]\nprovider = "acme"\nrequest = "POST /c"\neffect = "safe"\ndeadline = "7s"\nsummary = "C."\n'
        'positional = ["x"]\nparams.properties.x.type = "integer"\n'
    )
    reading = config.read(tmp_path / "homing.toml")
    asked = machines.asked_methods(reading.methods)
    offers = {offer.name: offer for offer in machines.offers_of(asked)}
    assert sorted(offers) == ["acme.a", "acme.b", "acme.c", "beta.a"]
    assert offers["acme.b"] == MethodOffer("acme.b", "slow")
    assert offers["acme.c"] == MethodOffer("acme.c", "acme", "safe", 7000, "C.", positional=("x",))
    assert set(machines.worker_of(config.usable(reading), asked, heartbeat_s=1.0)._offers) == set(offers.values())


def test_one_process_bears_every_limit_alone(tmp_path: Path) -> None:
    read, _ = house(tmp_path)
    assert machines.shared(read, 1) is read


def test_processes_share_what_they_bear_together(tmp_path: Path) -> None:
    read, _ = house(tmp_path)
    one = machines.shared(read, 4)
    assert (one.gateway.in_flight_max, one.worker.credit, one.worker.outcomes_held_bytes_max) == (2, 12, 64 * 1024**2)
    assert one.gateway.held_bytes_max == one.gateway.body_max == 1024**2, "one body has room still"
    shop, acme = one.principals["shop"], one.providers["acme"]
    assert shop.rate is not None
    assert (shop.rate.limit, shop.rate.per, shop.rate.burst) == (5, 4.0, 1)
    assert shop.in_flight_max == 1, "0 would let nobody in"
    assert (one.principals["free"].rate, one.principals["free"].in_flight_max) == (None, None)
    assert acme.rate is not None
    assert (acme.in_flight_max, acme.rate.limit, acme.rate.per, acme.rate.burst) == (16, 600, 240.0, 12)
    assert one.providers["beta"].in_flight_max == 1
    assert one.broker == read.broker
