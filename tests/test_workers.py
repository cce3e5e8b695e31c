"""What a program writes to offer its functions: src/homing/workers.py."""

import subprocess
import sys
from pathlib import Path

import pytest

import homing
from homing import Worker
from homing.workers import load_worker

REPORTS = '''
from homing import Worker

worker = Worker("reports")
other = Worker("other")
number = 7


class Inside:
    worker = Worker("inside")


@worker.method(effect="safe", timeout=60)
async def build(year: int) -> str:
    """Build the report of a year."""
    return f"report of {year}"
'''


@pytest.fixture
def reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reports_of_test.py").write_text(REPORTS)
    (tmp_path / "broken_of_test.py").write_text("import not_there_of_test\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "reports_of_test", raising=False)


def test_a_function_becomes_a_method_and_stays_a_function() -> None:
    worker = Worker("reports")

    @worker.method(effect="safe", timeout=60)
    def build(year: int) -> int:
        return year

    @worker.method(name="drop")
    def remove(year: int) -> None: ...

    assert build(2024) == 2024
    assert list(worker.functions) == ["reports.build", "reports.drop"]
    assert (worker.functions["reports.build"].timeout_s, worker.functions["reports.build"].effect) == (60, "safe")
    assert worker.functions["reports.drop"].effect == "once"
    assert repr(worker) == "Worker('reports')"
    assert homing.Worker is Worker


def test_two_methods_of_one_name_are_refused() -> None:
    worker = Worker("reports")
    worker.method(name="build")(lambda: None)
    with pytest.raises(ValueError, match=r"reports\.build is there already"):
        worker.method(name="build")(lambda: None)


@pytest.mark.parametrize("name", ["", " ", "a*", "a\n", " a", "a ", "a" * 101])
def test_a_worker_needs_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="no name for a worker"):
        Worker(name)


@pytest.mark.usefixtures("reports")
def test_a_worker_is_found_by_module_and_name() -> None:
    assert list(load_worker("reports_of_test:worker").functions) == ["reports.build"]
    assert load_worker("reports_of_test:Inside.worker").name == "inside"


@pytest.mark.usefixtures("reports")
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("reports_of_test", ["expected MODULE:NAME"]),
        (":worker", ["expected MODULE:NAME"]),
        ("reports_of_test:", ["expected MODULE:NAME"]),
        ("not_there_of_test:worker", ["no module 'not_there_of_test'"]),
        ("reports_of_test.inner:worker", ["no module 'reports_of_test.inner'"]),
        ("reports_of_test:wroker", ["nothing of this name", "reports_of_test:worker, reports_of_test:other"]),
        ("reports_of_test:number", ["it is a int"]),
        ("reports_of_test:worker.name.x", ["nothing of this name"]),
        ("homing:CallError", ["of this module are none"]),
    ],
)
def test_a_target_that_is_no_worker_says_what_is_there(target: str, words: list[str]) -> None:
    with pytest.raises(ValueError, match=target.partition(":")[0] or "MODULE") as caught:
        load_worker(target)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.usefixtures("reports")
def test_what_a_module_lacks_itself_is_its_own_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="not_there_of_test"):
        load_worker("broken_of_test:worker")


def test_importing_homing_imports_neither_loop_nor_sockets() -> None:
    code = "import sys, homing; print([name for name in ('asyncio', 'zmq', 'msgspec', 'httptools') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_module_of_functions_is_imported_without_what_runs_it() -> None:
    code = "import sys; from homing import Worker; print([n for n in ('zmq', 'uvloop', 'prometheus_client') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
