"""`python -m fuzz`, as far as it goes without Atheris."""

import subprocess
import sys
from pathlib import Path

from fuzz.__main__ import prepare
from fuzz.seeds import SEEDS

ROOT = Path(__file__).parents[2]


def said(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "fuzz", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_corpus_begins_with_the_seeds_and_keeps_what_it_has(tmp_path: Path) -> None:
    folder = prepare("wire", tmp_path)
    (folder / "found").write_bytes(b"found")
    assert prepare("wire", tmp_path) == folder
    assert sorted(path.read_bytes() for path in folder.iterdir()) == sorted((b"found", *SEEDS["wire"]))


def test_bytes_that_were_found_are_run_again(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(SEEDS["json_text"][0])
    assert said("json_text", "--again", str(tmp_path / "bytes")).returncode == 0


def test_a_target_that_does_not_exist_is_told() -> None:
    refused = said("jsontext")
    assert refused.returncode == 2
    assert "no such target: jsontext; expected some of request_body, json_text" in refused.stderr
