"""`Worker`: functions of a Python program as methods that callers reach through homing.

    worker = Worker("reports")

    @worker.method(effect="safe", timeout=60)
    async def build(year: int) -> dict[str, int]: ...

`homing worker reports:worker --broker tcp://127.0.0.1:8372` runs it, and so does `worker.run(broker="tcp://127.0.0.1:8372")`.
"""

import os
import re
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import TYPE_CHECKING, ClassVar, TypeVar, cast, overload

from homing.errors import Effect
from homing.functions import Function
from homing.roles import python_child
from homing.roles.python_answers import flush

IMPORTED_MAIN = "__homing_main__"
"""What a program that runs its own worker is called in the processes of its pool: not `__main__`, so that it does not run there."""

if TYPE_CHECKING:
    from homing.roles.python_worker import Offering

COUNT_MAX = 100_000
Method = TypeVar("Method", bound=Callable[..., object])


class NoWorker(ValueError):
    """A target names no worker, or one that cannot run. Of whatever a module itself raises, it is told apart."""


class Worker:
    """A service and its methods, which are called `NAME.FUNCTION`. `functions` has them by that name."""

    only_imported: ClassVar[bool] = False  # in the processes of a pool, where nobody's `run` runs

    def __init__(self, name: str) -> None:
        if not re.fullmatch(r"[^\s*][^*\n]{0,99}(?<!\s)", name) or not name.isprintable():
            rule = 'expected 1 to 100 printable characters without *, such as "reports"'
            raise ValueError(f"{name!r} is no name for a worker: {rule}")
        self.name = name
        self.functions: dict[str, Function] = {}

    def __repr__(self) -> str:
        return f"Worker({self.name!r})"

    @overload
    def method(self, call: Method, /) -> Method: ...

    @overload
    def method(
        self, /, *, effect: Effect = "once", timeout: float | None = None, name: str | None = None
    ) -> Callable[[Method], Method]: ...

    def method(
        self,
        call: Callable[..., object] | None = None,
        /,
        *,
        effect: Effect = "once",
        timeout: float | None = None,
        name: str | None = None,
    ) -> Callable[..., object]:
        """Offer the function below as a method. It stays as it is, to be called and tested as any other. `@worker.method` alone will do.

        `effect` says whether a call may be repeated: `once` never, `keyed` under its idempotency key, `safe` at will. `timeout` is how
        many seconds a call takes where the caller says nothing. `name` is the method's if it is not to be the function's. An
        `async def` runs on the worker's event loop, a `def` in a process of the worker's pool.

        Raises TypeError or ValueError, naming function and parameter, for what cannot be a method.
        """
        if call is not None and not callable(call):
            raise TypeError(f'{call!r} is no function; write @worker.method(effect="safe") or (name="build") above one')

        def offer(call: Method) -> Method:
            function = Function(call, service=self.name, name=name, effect=effect, timeout_s=timeout)
            if function.name in self.functions:
                raise ValueError(f"{function.name} is there already; say method(name=…) for another name")
            self.functions[function.name] = function
            return call

        return offer if call is None else offer(call)

    def run(
        self,
        broker: str | Sequence[str],
        *,
        credit: int | None = None,
        processes: int | None = None,
        curve: str | os.PathLike[str] | None = None,
        broker_key: str | None = None,
        insecure: bool = False,
        drain_timeout: float = 120.0,
    ) -> None:
        """Offer the methods to one or several brokers, such as "tcp://127.0.0.1:8372", until SIGTERM or SIGINT; then drain and return.

        `credit` is how many calls it takes at once, `processes` how many there are for `def`s. `curve` is the file with this
        worker's keys that `homing keys curve NAME` wrote, and `broker_key` the brokers' public key: required off this machine, unless
        `insecure`. Raises ValueError for what cannot be meant, and RuntimeError if it cannot begin.

        In a process of the pool it returns at once, for there the program is only imported.
        """
        if Worker.only_imported:
            return
        # Sockets, metrics and all: who only declares methods need not wait for them.
        from homing.client_zmq import brokers  # noqa: PLC0415
        from homing.roles import python_worker  # noqa: PLC0415

        if not _is_time(drain_timeout):
            raise ValueError(f"drain_timeout is {drain_timeout!r}, expected seconds, such as 120")
        reached = brokers(broker, curve=curve, broker_key=broker_key, insecure=insecure)
        offering = offering_of(self, *_place_of(self), credit=credit, processes=processes, own_log=True)
        python_worker.run_alone(offering, reached.endpoints, reached.curve, drain_timeout_s=drain_timeout)


def offering_of(
    worker: Worker,
    target: str,
    path: str | None = None,
    *,
    credit: int | None = None,
    processes: int | None = None,
    own_log: bool = False,
) -> "Offering":
    """What a process offers that runs the worker. `target`, `path` and `own_log` are as in `serve_child`. Raises ValueError."""
    from homing.roles.python_pool import child_command  # noqa: PLC0415 - as in `run`
    from homing.roles.python_worker import Offering  # noqa: PLC0415

    for name, number in (("credit", credit), ("processes", processes)):
        if number is not None and not 1 <= number <= COUNT_MAX:
            raise ValueError(f"{name} is {number}, expected 1 to {COUNT_MAX}")
    if not worker.functions:
        raise NoWorker(f"{worker!r} has no methods: put @worker.method() above a function")
    command = child_command(target, path, own_log=own_log)
    return Offering(name=worker.name, functions=worker.functions, command=command, processes=processes or 0, credit=credit)


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _place_of(worker: Worker) -> tuple[str, str | None]:
    """Where a process of the pool finds the worker: a target, and the program's file if that is no module. Raises ValueError."""
    main = sys.modules["__main__"]
    name = _name_in(main, worker)
    if name is not None and main.__spec__ is not None:
        return f"{main.__spec__.name}:{name}", None
    if name is not None and getattr(main, "__file__", None) is not None:
        return name, os.path.abspath(cast(str, main.__file__))  # noqa: PTH100 - links stay links
    for module in list(sys.modules.values()):
        if module is not main and (name := _name_in(module, worker)) is not None:
            return f"{module.__name__}:{name}", None
    if all(function.is_async for function in worker.functions.values()):
        return "", None  # nobody will look for it
    raise ValueError(
        f"{worker!r} must be a global of a module or a program's file: the processes of its `def`s import it by that name"
    )


def _name_in(module: object, worker: Worker) -> str | None:
    names = getattr(module, "__dict__", {})
    return next((name for name, value in list(names.items()) if value is worker), None)


def find_worker(module: ModuleType, path: str) -> Worker:
    """The worker that a module has under a dotted path. Raises NoWorker, which says what is there instead."""
    found: object = module
    for step in path.split("."):
        found = getattr(found, step, None)
    if isinstance(found, Worker):
        return found
    there = ", ".join(f"{module.__name__}:{name}" for name, value in vars(module).items() if isinstance(value, Worker))
    kind = "there is nothing of this name" if found is None else f"it is a {type(found).__name__}"
    raise NoWorker(f"no homing.Worker is at {module.__name__}:{path}: {kind}; the workers of this module are {there or 'none'}")


def load_worker(target: str) -> Worker:
    """The worker of `MODULE:NAME`. Raises NoWorker for what names none; whatever the module raises goes through."""
    name, colon, path = target.partition(":")
    if not name or name.startswith(".") or not colon or not path:
        raise NoWorker(
            f'expected MODULE:NAME, such as "reports:worker" for `worker = Worker(…)` in reports.py, and found {target!r}'
        )
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # one that the module itself asks for
        meant = name.removesuffix(".py").replace("/", ".").strip(".")
        hint = f'; a module is named as in an import, did you mean "{meant}:{path}"?' if meant != name else ""
        where = f"neither in {sys.path[0] or '.'} nor where Python looks else"
        raise NoWorker(f"there is no module {error.name!r}, {where}{hint}") from None
    return find_worker(module, path)


def import_file(path: str) -> ModuleType:
    """Import a program that is no module, and does not run for that. Raises whatever it raises."""
    spec = spec_from_file_location(IMPORTED_MAIN, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = module_from_spec(spec)
    sys.modules[IMPORTED_MAIN] = module  # types that are named by text are looked up there
    spec.loader.exec_module(module)
    return module


def serve_child(descriptor: int, parent: int, target: str, path: str | None, *, own_log: bool = False) -> None:
    """The life of a process of the pool. `target` is as for `load_worker`, or a name in the program `path`.

    With `own_log` it is left alone how that logs, if it has said so.
    """

    def load() -> dict[str, Function]:
        return (load_worker(target) if path is None else find_worker(import_file(path), target)).functions

    Worker.only_imported = True
    code = 1
    try:
        channel = socket.socket(fileno=descriptor)
        channel.set_inheritable(False)  # what functions start is none of the pool's business
        python_child.serve(channel, load, parent, own_log=own_log)
        code = 0
    except BaseException:  # a function has closed what it did not open, say
        traceback.print_exc()
    finally:  # at once: Python would wait for every thread that a function has left, and the call for Python
        flush()
        os._exit(code)
