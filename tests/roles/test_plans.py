"""What each process is, and what it says of itself."""

import itertools
import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from homing import config, settings
from homing.config import Config
from homing.engines.zmq import CurveClient, CurveServer
from homing.forms import Address
from homing.roles import plans
from homing.roles.plans import Placing
from homing.roles.process import Process
from homing.settings import Broker, DialCurve, Gateway, ListenCurve, Peer, Worker
from homing.telemetry import Log
from tests.loops import run

PUBLIC, SECRET = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID", "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
NEAR = "tcp://127.0.0.1:8372"


def key_file(folder: Path) -> str:
    path = folder / "key"
    path.write_text(f'public_key = "{PUBLIC}"\nsecret_key = "{SECRET}"\n')
    path.chmod(0o600)
    return str(path)


def test_serve_is_alone_until_its_broker_listens() -> None:
    plan = plans.serve_plan(Config())
    assert (plan.gateway, plan.broker, plan.worker, plan.alone) == (True, True, True, True)
    assert plan.admin == Address("127.0.0.1", 8371)
    opened = plans.serve_plan(Config(broker=Broker(listen=NEAR)))
    assert (opened.listens, opened.alone) == ((NEAR,), False)


def test_serve_has_its_broker_inside_whatever_a_gateway_would_dial() -> None:
    assert plans.serve_plan(Config(gateway=Gateway(brokers=(NEAR,)), worker=Worker(brokers=(NEAR,)))).dials == ()


def test_each_role_is_as_configured_and_the_command_line_is_above_that() -> None:
    other = Address("127.0.0.1", 9)
    both = Config(
        gateway=Gateway(brokers=(NEAR,)), broker=Broker(listen=NEAR, admin=other), worker=Worker(brokers=(NEAR,), credit=7)
    )
    gateway = plans.gateway_plan(both, Placing())
    assert (gateway.gateway, gateway.broker, gateway.worker, gateway.dials) == (True, False, False, (NEAR,))
    assert gateway.admin == Address("127.0.0.1", 8371)
    broker = plans.broker_plan(both, Placing())
    assert (broker.gateway, broker.broker, broker.worker, broker.listens, broker.admin) == (False, True, False, (NEAR,), other)
    worker = plans.worker_plan(both, Placing())
    assert (worker.worker, worker.dials, worker.credit_max, worker.admin) == (True, (NEAR,), 7, None)
    said = Placing(listens=("ipc://@a", "ipc://@b"), dials=("ipc://@a",), admin="a.sock", listen_fds=(5,), parent_fd=6)
    assert plans.broker_plan(both, said).listens == said.listens
    assert plans.gateway_plan(both, said).dials == plans.worker_plan(both, said).dials == said.dials
    gateway = plans.gateway_plan(both, said)
    assert (gateway.admin, gateway.listen_fds, gateway.parent_fd) == ("a.sock", (5,), 6)


def test_keys_are_read_from_their_files(tmp_path: Path) -> None:
    name = key_file(tmp_path)
    dial = DialCurve(key=name, broker="0" * 40)
    read = Config(
        gateway=Gateway(curve=dial),
        broker=Broker(listen=NEAR, curve=ListenCurve(key=name)),
        worker=Worker(curve=dial),
        peers={"back": Peer(public_key=PUBLIC, serve=("*",))},
    )
    client = CurveClient(PUBLIC.encode(), SECRET.encode(), b"0" * 40)
    assert plans.gateway_plan(read, Placing()).dial_curve == plans.worker_plan(read, Placing()).dial_curve == client
    server = CurveServer(SECRET.encode(), {PUBLIC.encode(): "back"})
    assert plans.broker_plan(read, Placing()).listen_curve == plans.serve_plan(read).listen_curve == server
    assert plans.serve_plan(replace(read, broker=Broker(curve=ListenCurve(key=name)))).listen_curve is None
    Path(name).chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        plans.gateway_plan(read, Placing())


HOUSE = """
[gateway]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[providers.acme]
base_url = "http://127.0.0.1:9"
in_flight_max = 3
[methods."acme.safe"]
provider = "acme"
effect = "safe"
request = "POST /"
"""


def said(folder: Path, role: str, placing: Placing, **broker: object) -> list[str]:
    """What a process says as it begins."""
    (folder / "homing.toml").write_text(HOUSE)
    reading = config.read(folder / "homing.toml")
    read = replace(config.usable(reading), broker=settings.Broker(**broker))  # type: ignore[arg-type]

    async def main() -> None:
        with (folder / "log").open("wb", buffering=0) as file:
            log = Log(file.fileno(), human=False)
            plan = getattr(plans, f"{role}_plan")(read, placing)
            process = Process(read, reading.methods, plan, log=log)
            await process.start()
            plans.announce(process)
            await process.stop()
            log.close()

    run(main())
    lines = [json.loads(line) for line in (folder / "log").read_text().splitlines()]
    said = (line["message"] for line in lines if line["event"] != "dropped")  # whoever listens there is not of this test
    return list(itertools.takewhile(lambda message: message != "Draining.", said))


def test_a_gateway_says_where_it_listens_and_whom_it_dials(tmp_path: Path) -> None:
    lines = said(tmp_path, "gateway", Placing(dials=("ipc://@nobody-a", "tcp://10.255.255.1:1")))
    assert lines[0].startswith("homing gateway listens on 127.0.0.1:")
    assert ", admin on 127.0.0.1:" in lines[0]
    assert lines[1] == "homing gateway gives its calls to the brokers at ipc://@nobody-a, tcp://10.255.255.1:1."
    assert lines[2].startswith("Insecure: what is said to tcp://10.255.255.1:1 can be read")
    assert len(lines) == 3


def test_a_broker_says_where_it_listens(tmp_path: Path) -> None:
    path = f"ipc://{tmp_path}/b"
    lines = said(tmp_path, "broker", Placing(listens=(path, "tcp://0.0.0.0:0"), admin=str(tmp_path / "admin")))
    assert lines[0].startswith(f"homing broker listens on {path}, tcp://0.0.0.0:")
    assert lines[0].endswith(f", admin on unix:{tmp_path}/admin.")
    assert ":0," not in lines[0]
    assert lines[1].startswith("Insecure: whoever reaches tcp://0.0.0.0:")


def test_a_worker_says_what_it_offers_to_whom(tmp_path: Path) -> None:
    assert said(tmp_path, "worker", Placing(dials=("ipc://@nobody-b",))) == [
        "homing worker offers acme (3 at once) to the broker at ipc://@nobody-b."
    ]


def test_serve_says_so_if_others_reach_its_broker(tmp_path: Path) -> None:
    alone = said(tmp_path, "serve", Placing())
    assert len(alone) == 1
    assert alone[0].startswith("homing listens on 127.0.0.1:")
    opened = said(tmp_path, "serve", Placing(), listen="tcp://127.0.0.1:0")
    assert opened[1].startswith("Other processes reach the broker on tcp://127.0.0.1:")
    assert len(opened) == 2
