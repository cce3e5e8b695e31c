"""`Worker`: functions of a Python program as methods that callers reach through homing.

    worker = Worker("reports")

    @worker.method(effect="safe", timeout=60)
    async def build(year: int) -> dict[str, int]: ...

`homing worker reports:worker --broker tcp://127.0.0.1:8372` runs it, and so does `worker.run(broker="tcp://127.0.0.1:8372")`.
"""

import re
import socket
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from types import ModuleType
from typing import TypeVar

from homing.errors import Effect
from homing.functions import Function
from homing.roles import python_child

IMPORTED_MAIN = "__homing_main__"
"""What a program that runs its own worker is called in the processes of its pool: not `__main__`, so that it does not run there."""

Method = TypeVar("Method", bound=Callable[..., object])


class Worker:
    """A service and its methods, which are called `NAME.FUNCTION`. `functions` has them by that name."""

    def __init__(self, name: str) -> None:
        if not re.fullmatch(r"[^\s*][^*\n]{0,99}(?<!\s)", name):
            raise ValueError(f'{name!r} is no name for a worker: expected 1 to 100 characters without *, such as "reports"')
        self.name = name
        self.functions: dict[str, Function] = {}

    def __repr__(self) -> str:
        return f"Worker({self.name!r})"

    def method(
        self, *, effect: Effect = "once", timeout: float | None = None, name: str | None = None
    ) -> Callable[[Method], Method]:
        """Offer the function below as a method. It stays as it is, to be called and tested as any other.

        `effect` says whether a call may be repeated: `once` never, `keyed` under its idempotency key, `safe` at will. `timeout` is how
        many seconds a call takes where the caller says nothing. `name` is the method's if it is not to be the function's. An
        `async def` runs on the worker's event loop, a `def` in a process of the worker's pool.

        Raises TypeError or ValueError, naming function and parameter, for what cannot be a method.
        """

        def offer(call: Method) -> Method:
            function = Function(call, service=self.name, name=name, effect=effect, timeout_s=timeout)
            if function.name in self.functions:
                raise ValueError(f"{function.name} is there already; say method(name=…) for another name")
            self.functions[function.name] = function
            return call

        return offer


def find_worker(module: ModuleType, path: str) -> Worker:
    """The worker that a module has under a dotted path. Raises ValueError, which says what is there instead."""
    found: object = module
    for step in path.split("."):
        found = getattr(found, step, None)
    if isinstance(found, Worker):
        return found
    there = ", ".join(f"{module.__name__}:{name}" for name, value in vars(module).items() if isinstance(value, Worker))
    kind = "there is nothing of this name" if found is None else f"it is a {type(found).__name__}"
    raise ValueError(f"{module.__name__}:{path} is no homing.Worker: {kind}. There is {there or 'none in this module'}.")


def load_worker(target: str) -> Worker:
    """The worker of `MODULE:NAME`. Raises ValueError for what names none; whatever the module raises goes through."""
    name, colon, path = target.partition(":")
    if not name or not colon or not path:
        raise ValueError(f'{target!r}: expected MODULE:NAME, such as "reports:worker" for `worker = Worker(…)` in reports.py')
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # one that the module itself asks for
        raise ValueError(f"{target}: there is no module {error.name!r} here ({sys.path[0] or '.'})") from None
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


def serve_child(descriptor: int, parent: int, target: str, path: str | None) -> None:
    """The life of a process of the pool. `target` is as for `load_worker`, or a name in the program `path`."""

    def load() -> dict[str, Function]:
        return (load_worker(target) if path is None else find_worker(import_file(path), target)).functions

    with socket.socket(fileno=descriptor) as channel:
        channel.set_inheritable(False)  # what functions start is none of the pool's business
        python_child.serve(channel, load, parent)
