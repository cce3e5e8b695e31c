"""homing: every call comes home: one answer, on time, and true.

The public names; each is imported when it is first asked for, so that `import homing` costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from homing.calling import current_call
    from homing.client import AsyncClient, Client
    from homing.errors import CallError, Executed, NotExecuted, OutcomeUnknown
    from homing.workers import Worker

    __version__: str

__all__ = [
    "AsyncClient",
    "CallError",
    "Client",
    "Executed",
    "NotExecuted",
    "OutcomeUnknown",
    "Worker",
    "__version__",
    "current_call",
]

_ROOMS = {
    "AsyncClient": "homing.client",
    "CallError": "homing.errors",
    "Client": "homing.client",
    "Executed": "homing.errors",
    "NotExecuted": "homing.errors",
    "OutcomeUnknown": "homing.errors",
    "Worker": "homing.workers",
    "current_call": "homing.calling",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        found: object = import_module("importlib.metadata").version("homing")
    elif name in _ROOMS:
        found = getattr(import_module(_ROOMS[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
