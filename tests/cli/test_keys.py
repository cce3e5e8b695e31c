import hashlib
import json
import os
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from homing import config
from homing.cli import main
from homing.curve import is_key, read_keys


def test_the_stanza_has_the_hash_and_the_key_is_shown_apart(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["keys", "new", "webshop"])
    assert result.exit_code == 0
    (key,) = re.findall(r"\bhk_[A-Za-z0-9_-]{43}\b", result.stderr)
    assert key not in result.stdout
    digest = "sha256:" + hashlib.sha256(key.encode()).hexdigest()
    assert tomllib.loads(result.stdout)["principals"]["webshop"]["api_key_hash"] == digest
    path = tmp_path / "homing.toml"
    path.write_text(result.stdout)
    assert config.load(path).principals["webshop"].api_key_hash == (digest,)


def test_programs_get_json() -> None:
    told = json.loads(CliRunner().invoke(main, ["keys", "new", "webshop", "--json"]).stdout)
    assert told.keys() == {"name", "key", "hash"}
    assert told["hash"] == "sha256:" + hashlib.sha256(told["key"].encode()).hexdigest()


def test_every_key_is_new() -> None:
    made = {json.loads(CliRunner().invoke(main, ["keys", "new", "x", "--json"]).stdout)["key"] for _ in range(20)}
    assert len(made) == 20


def test_a_name_is_quoted_where_toml_wants_that() -> None:
    assert CliRunner().invoke(main, ["keys", "new", "web.shop eu"]).stdout.startswith('[principals."web.shop eu"]\n')


@pytest.mark.parametrize("name", ["", " x", "a\nb"])
def test_what_is_no_name_is_refused(name: str) -> None:
    result = CliRunner().invoke(main, ["keys", "new", name])
    assert result.exit_code == 2
    assert "is no name for a principal" in result.stderr


def test_a_process_gets_a_file_of_its_own_and_a_stanza_without_the_secret(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["keys", "curve", "worker-1", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    path = tmp_path / "worker-1.key"
    assert path.stat().st_mode & 0o777 == 0o600
    keys = read_keys(path)
    assert is_key(keys.public_key)
    assert is_key(keys.secret_key)
    assert tomllib.loads(result.stdout)["peers"]["worker-1"]["public_key"] == keys.public_key
    assert keys.secret_key not in result.output
    assert str(path) in result.stderr


def test_only_its_owner_may_read_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        assert CliRunner().invoke(main, ["keys", "curve", "x", "--out", str(tmp_path)]).exit_code == 0
    finally:
        os.umask(before)
    assert (tmp_path / "x.key").stat().st_mode & 0o777 == 0o600


def test_programs_get_json_of_a_process_too(tmp_path: Path) -> None:
    told = json.loads(CliRunner().invoke(main, ["keys", "curve", "x", "--out", str(tmp_path), "--json"]).stdout)
    assert told == {"name": "x", "public_key": read_keys(tmp_path / "x.key").public_key, "path": str(tmp_path / "x.key")}


def test_the_stanza_is_configuration(tmp_path: Path) -> None:
    stanza = CliRunner().invoke(main, ["keys", "curve", "x", "--out", str(tmp_path)]).stdout
    path = tmp_path / "homing.toml"
    path.write_text(stanza)
    assert config.load(path).peers["x"].public_key == read_keys(tmp_path / "x.key").public_key


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x.key").write_text("precious")
    result = CliRunner().invoke(main, ["keys", "curve", "x", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "exists, and keys are never overwritten" in result.stderr
    assert (tmp_path / "x.key").read_text() == "precious"
    assert not result.stdout


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["keys", "curve", "x", "--out", str(tmp_path / "nowhere")])
    assert result.exit_code == 2
    assert "nowhere/x.key cannot be written: no such file or directory" in result.stderr


def test_a_full_disk_leaves_no_half_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, mode: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    result = CliRunner().invoke(main, ["keys", "curve", "x", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "no space left on device" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "why"), [("", "is no name for a process"), ("../x", "cannot have a slash"), ("a\nb", "is no name")]
)
def test_what_is_no_name_for_a_process_is_refused(name: str, why: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["keys", "curve", name, "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert why in result.stderr
    assert not list(tmp_path.iterdir())
