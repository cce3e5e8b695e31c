"""The call that a Python worker's function is answering, at hand wherever that function calls what it calls."""

import time
from contextvars import ContextVar

import msgspec


class CurrentCall(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One call, as the function that answers it may see it.

    `call_id` is the 32 hex digits that the caller and the log know. `deadline` is an instant of `time.monotonic()`, after which
    nobody waits any more. `idempotency_key` stays the same when the call is made again under the caller's key, and differs between
    principals: good as the name of what must be done once. `attempt` counts the workers that were given the call, from 1 on.
    """

    call_id: str
    method: str
    principal: str  # "" for an anonymous caller
    idempotency_key: str
    attempt: int
    deadline: float

    @property
    def remaining_s(self) -> float:
        """Seconds until the deadline, 0.0 once it has passed."""
        return max(0.0, self.deadline - time.monotonic())


_current: ContextVar[CurrentCall] = ContextVar("homing_current_call")


def current_call() -> CurrentCall:
    """The call that is being answered here. Raises LookupError where none is."""
    try:
        return _current.get()
    except LookupError:
        raise LookupError("current_call() is for functions of a Worker, while they answer a call") from None


def enter_call(call: CurrentCall) -> None:
    """From now on, in this context, it is this call."""
    _current.set(call)
