"""The project keeps its own rules. Each test names the rule it keeps; CONTRIBUTING.md says why there is such a rule."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"
MODULES = sorted((SRC / "homing").rglob("*.py"))
LINES_MAX = 550

# Written so that no pattern matches its own line: this file keeps the rules too.
REGISTRY = re.compile(r"pypi\.(?:org|python)|python(?:hosted)|npm(?:js)\.|crates\.(?:io)")
MACHINE_PATH = re.compile(r"(?<![\w/.:}\])])/(?:work|root|home|Users|tmp)(?:/[\w.]|(?=[\s\"'`]))")
PROMISE = re.compile(r"\b(?:TO(?:DO)|FIX(?:ME)|X(?:XX))\b")

# Each outside library stands in the one place that needs it, so that it can be exchanged there.
ROOMS = {
    "click": "homing.cli",
    "httptools": "homing",
    "jmespath": "homing.core.mapping",
    "jsonschema_rs": "homing.core.methods",
    "msgspec": "homing",
    "prometheus_client": "homing.telemetry",
    "rich": "homing.cli",
    "uvloop": "homing.roles",
    "zmq": "homing.engines",
}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


def own_test(path: Path) -> Path:
    """The test file of a source file: src/homing/core/calls.py has tests/core/test_calls.py."""
    return ROOT / "tests" / path.relative_to(SRC / "homing").with_name(f"test_{path.stem.strip('_')}.py")


def tracked() -> list[Path]:
    """Every file that is, or by `git add .` would be, part of the project."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for name in listed.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def lines_matching(pattern: re.Pattern[str], paths: list[Path]) -> Iterator[str]:
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture says nothing
        for number, line in enumerate(text.splitlines(), 1):
            if pattern.search(line):
                yield f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"


def imports_of(path: Path) -> Iterator[str]:
    """Return the top-level name of every import in a file, the late and the type-checking ones included."""
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


def test_no_file_names_a_registry() -> None:
    assert not list(lines_matching(REGISTRY, tracked()))


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    assert not list(lines_matching(MACHINE_PATH, tracked()))


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("cd /" + "home/ada/homing", True),
        ('"/' + 'tmp/x"', True),
        ("in /" + "work", False),
        ("in /" + "work ", True),
        ("https://provider.example/" + "home/x", False),
        ("{account}/" + "tmp/x", False),
        ("/" + "tmpfiles", False),
    ],
)
def test_a_machine_path_is_told_from_an_address(text: str, is_one: bool) -> None:
    assert bool(MACHINE_PATH.search(text)) is is_one


def test_nothing_is_put_off_in_the_source() -> None:
    assert not list(lines_matching(PROMISE, MODULES))


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_file_fits_in_a_head(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LINES_MAX, f"{lines} lines; split it where it has two subjects"


@pytest.mark.parametrize("path", [path for path in MODULES if path.name != "__init__.py"], ids=module_name)
def test_file_has_a_test_file_of_its_own(path: Path) -> None:
    own = own_test(path)
    assert own.is_file(), f"{own.relative_to(ROOT)} is missing"
    text = own.read_text(encoding="utf-8")
    assert re.search(r"^\s*(?:async )?def test_|\bTestCase\b", text, re.MULTILINE), "it has no test"
    assert module_name(path).rpartition(".")[2] in text, "it never names what it tests"


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_outside_libraries_stay_in_their_rooms(path: Path) -> None:
    name = module_name(path)
    for library in set(imports_of(path)) - sys.stdlib_module_names - {"homing"}:
        assert library in ROOMS, f"{library} has no room yet: give it one in ROOMS, and a reason in the pull request"
        room = ROOMS[library]
        assert f"{name}.".startswith(f"{room}."), f"{library} belongs to {room}"


def lint_imports(cwd: Path, src: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache", "--no-logo", *options],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(src)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_imports_point_inwards() -> None:
    result = lint_imports(ROOT, SRC)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("errors", "import homing.core", "rings"),
        ("core/machine", "import homing.config", "rings"),
        ("core/machine", "import homing.edges", "rings"),
        ("core/machine", "import asyncio", "pure"),
        ("core/machine", "def late():\n    from time import time", "pure"),
        ("engines/__init__", "import homing.roles", "rings"),
        ("roles/__init__", "import homing.cli", "rings"),
        ("roles/__init__", "import homing.sim", "imagined"),
        ("sim/__init__", "import homing.edges", "rings"),
        ("sim/__init__", "import homing.client", "apart"),
        ("core/machine", "import homing.client_http", "apart"),
        ("sim/__init__", "import time", "repeatable"),
        ("client", "import homing.core", "rings"),
        ("stray", "", "rings"),
    ],
)
def test_an_import_that_points_outwards_is_caught(module: str, line: str, contract: str, tmp_path: Path) -> None:
    """Break one rule in a copy, to see the contract fail."""
    shutil.copytree(SRC, tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "src" / "homing" / f"{module}.py").open("a", encoding="utf-8") as file:
        file.write(f"\n\n{line}\n")
    # What the line asks for may not be written yet.
    for name in re.findall(r"import homing\.(client|client_http|config)$", line):
        (tmp_path / "src" / "homing" / f"{name}.py").touch()
    result = lint_imports(tmp_path, tmp_path / "src", "--contract", contract)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "0 kept, 1 broken" in result.stdout


@pytest.mark.parametrize(("folder", "group"), [("", "dev"), ("bench", "bench"), ("fuzz", "fuzz")])
def test_what_is_installed_is_pinned(folder: str, group: str) -> None:
    text = (ROOT / folder / "constraints.txt").read_text(encoding="utf-8").replace("\\\n", " ")
    pins = {}
    for line in text.splitlines():
        pin = re.match(r"([a-z0-9-]+)==\S+ (?:; [^#]*?)?((?:\s*--hash=sha256:[0-9a-f]{64})+)\s*$", line)
        assert pin, f"neither pinned nor hashed: {line[:80]}"
        pins[pin[1]] = pin[2]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = project["dependency-groups"][group] + ([] if group == "bench" else project["project"]["dependencies"])
    names = {re.split(r"[\[<>=; ]", requirement)[0] for requirement in wanted}
    assert names <= pins.keys(), f"say `make lock`: {names - pins.keys()}"


def test_the_version_is_in_the_changelog_or_to_come() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert "## [Unreleased]" in changelog or f"## [{version}]" in changelog
