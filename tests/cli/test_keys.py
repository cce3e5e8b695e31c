import hashlib
import json
import re
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from homing import config
from homing.cli import main


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
