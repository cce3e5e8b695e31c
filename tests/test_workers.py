"""What a program writes to offer its functions: src/homing/workers.py."""

import inspect
import re
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import homing
from homing import Worker
from homing.workers import NoWorker, _place_of, import_file, load_worker

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


def test_the_decorator_needs_no_parentheses() -> None:
    worker = Worker("reports")

    @worker.method
    async def build(year: int) -> int:
        return year

    @worker.method
    def remove(year: int) -> None: ...

    assert inspect.iscoroutinefunction(build)
    assert [(name, each.effect, each.timeout_s) for name, each in worker.functions.items()] == [
        ("reports.build", "once", None),
        ("reports.remove", "once", None),
    ]


@pytest.mark.parametrize("given", ["safe", 60, "build"])
def test_what_is_given_without_its_name_is_told(given: Any) -> None:
    with pytest.raises(TypeError, match=r"is no function; write @worker\.method\(effect="):
        Worker("reports").method(given)


def test_two_methods_of_one_name_are_refused() -> None:
    worker = Worker("reports")
    worker.method(name="build")(lambda: None)
    with pytest.raises(ValueError, match=r"reports\.build is there already"):
        worker.method(name="build")(lambda: None)


@pytest.mark.parametrize("name", ["", " ", "a*", "a\n", " a", "a ", "a" * 101, "a\x1b[1m", "a\ud800"])
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
        ("./reports_of_test:worker", ["expected MODULE:NAME", "./reports_of_test"]),
        ("not_there_of_test:worker", ["no module 'not_there_of_test'"]),
        ("reports_of_test.inner:worker", ["no module 'reports_of_test.inner'"]),
        ("reports_of_test.py:worker", ["no module 'reports_of_test.py'", 'did you mean "reports_of_test:worker"?']),
        ("here/reports_of_test:worker", ["no module", 'did you mean "here.reports_of_test:worker"?']),
        ("reports_of_test:wroker", ["nothing of this name", "reports_of_test:worker, reports_of_test:other"]),
        ("reports_of_test:number", ["it is a int"]),
        ("reports_of_test:worker.name.x", ["nothing of this name"]),
        ("homing:CallError", ["of this module are none"]),
    ],
)
def test_a_target_that_is_no_worker_says_what_is_there(target: str, words: list[str]) -> None:
    with pytest.raises(NoWorker, match=target.partition(":")[0] or "MODULE") as caught:
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


# running it


def made(*names: str) -> Worker:
    worker = Worker("made")
    for name in names:
        worker.method(name=name)(lambda: None)
    return worker


IN_THIS_MODULE = made("f")


def test_the_pool_finds_a_worker_by_module_and_name() -> None:
    target, path = _place_of(IN_THIS_MODULE)
    assert (target.rpartition(":")[2], path) == ("IN_THIS_MODULE", None)
    assert target.startswith(__name__)


def test_the_pool_finds_a_worker_of_a_program_by_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = ModuleType("__main__")
    worker = program.__dict__["worker"] = made("f")
    monkeypatch.setitem(sys.modules, "__main__", program)
    program.__file__ = "my program.py"
    monkeypatch.chdir(tmp_path)
    assert _place_of(worker) == ("worker", str(tmp_path / "my program.py"))
    program.__spec__ = ModuleSpec("package.__main__", None)
    assert _place_of(worker) == ("package.__main__:worker", None)
    program.__spec__ = program.__file__ = None  # what is typed at a prompt is in no file
    with pytest.raises(ValueError, match="must be a global of a module or a program's file"):
        _place_of(worker)


def test_a_worker_of_coroutines_may_be_anywhere() -> None:
    worker = Worker("made")

    @worker.method()
    async def f() -> None: ...

    assert _place_of(worker) == ("", None)
    with pytest.raises(ValueError, match=r"Worker\('made'\) must be a global"):
        _place_of(made("f"))


def test_a_program_is_imported_by_its_file_under_another_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my-program.py"
    path.write_text("from dataclasses import dataclass\n@dataclass\nclass A:\n    b: 'int'\nname = __name__\n")
    monkeypatch.setitem(sys.modules, "__homing_main__", ModuleType("before"))
    module = import_file(str(path))
    assert module.name == "__homing_main__"
    assert sys.modules["__homing_main__"] is module
    (tmp_path / "no-program").write_text("")
    with pytest.raises(ImportError, match="is no Python file"):
        import_file(str(tmp_path / "no-program"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"broker": "127.0.0.1:8372"}, "is no broker's address"),
        ({"broker": []}, "no broker"),
        ({"broker": "tcp://192.0.2.1:8372"}, "is on another machine"),
        ({"broker": "tcp://127.0.0.1:8372", "broker_key": "x"}, "curve, the file"),
        ({"broker": "tcp://127.0.0.1:8372", "credit": 0}, "credit is 0, expected 1 to"),
        ({"broker": "tcp://127.0.0.1:8372", "processes": 10**6}, "processes is 1000000, expected 1 to"),
        ({"broker": "tcp://127.0.0.1:8372", "drain_timeout": -1}, "drain_timeout is -1"),
        ({"broker": "tcp://127.0.0.1:8372", "drain_timeout": "2m"}, "drain_timeout is '2m'"),
    ],
    ids=["address", "none", "far", "keys", "credit", "processes", "drain", "drain text"],
)
def test_what_cannot_be_meant_is_refused_before_anything_runs(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        IN_THIS_MODULE.run(**options)


def test_a_worker_without_methods_does_not_run() -> None:
    with pytest.raises(ValueError, match=r"Worker\('empty'\) has no methods"):
        Worker("empty").run("tcp://127.0.0.1:8372")


def test_in_a_process_of_the_pool_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worker, "only_imported", True)
    Worker("empty").run("no broker")


@pytest.mark.parametrize("name", ["method", "run"])
def test_the_page_on_python_has_every_argument(name: str) -> None:
    page = (Path(__file__).parent.parent / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    signature = inspect.signature(getattr(Worker, name))
    plain = [each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values() if each.name != "self"]
    assert f"`{name}{signature.replace(parameters=plain, return_annotation=inspect.Signature.empty)}`" in page
