"""What the processes read is a configuration, with keys and without, and nobody is let do more than it must."""

import tomllib
from pathlib import Path

import pytest

from chaos.configuration import tables
from chaos.keys import BROKER, RIGHTS, Keys, make
from homing.core.permits import Permit

KEYS = Keys(Path("round"), {name: f"{index:040}" for index, name in enumerate((BROKER, *RIGHTS))})


@pytest.mark.parametrize("listen", ["", "tcp://127.0.0.1:8372"])
def test_without_keys_nobody_speaks_curve(listen: str) -> None:
    read = tomllib.loads(tables(listen=listen))
    assert read["broker"].get("listen", "") == listen
    assert read["worker"]["insecure"] is True
    assert "peers" not in read
    assert "{" not in str(read["gateway"].get("curve", ""))


@pytest.mark.parametrize("worker", ["worker", "desk"])
def test_with_keys_everybody_has_its_own(worker: str) -> None:
    read = tomllib.loads(tables(listen="tcp://127.0.0.1:8372", keys=KEYS, worker=worker))
    assert read["worker"]["curve"] == {"key": f"{worker}.key", "broker": KEYS.public[BROKER]}
    assert read["gateway"]["curve"]["key"] == "gateway.key"
    assert read["broker"]["curve"] == {"key": "broker.key"}
    assert set(read["peers"]) == set(RIGHTS)


def test_a_stranger_may_neither_serve_nor_call_what_there_is() -> None:
    stanza = tomllib.loads(KEYS.peers())["peers"]["stranger"]
    permit = Permit(tuple(stanza.get("serve", ())), tuple(stanza["call"]))
    assert not any(permit.serves(service) or permit.calls(service) for service in ("bank", "desk"))


def test_keys_are_made_and_each_is_its_own(tmp_path: Path) -> None:
    keys = make(tmp_path)
    assert len(set(keys.public.values())) == len(RIGHTS) + 1
    for name, public in keys.public.items():
        assert public in keys.path(name).read_text()
        assert keys.path(name).stat().st_mode & 0o777 == 0o600
