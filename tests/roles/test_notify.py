"""`notify`: what a service manager is told."""

import socket
from pathlib import Path

import pytest

from homing.roles.notify import notify


@pytest.mark.parametrize("address", ["notify", "@homing-notify-test"], ids=["path", "abstract"])
def test_a_service_manager_hears_it(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has at most some hundred bytes
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0"))
        assert notify({"NOTIFY_SOCKET": address}, "READY=1", "STATUS=Well.")
        assert manager.recv(100) == b"READY=1\nSTATUS=Well."


def test_where_there_is_none_nobody_is_told(tmp_path: Path) -> None:
    assert not notify({}, "READY=1")
    assert not notify({"NOTIFY_SOCKET": str(tmp_path / "gone")}, "READY=1")
