"""The hands of a Python worker: what its machine starts, they call, and say how it ended.

An `async def` is a task on this loop, a `def` an errand of the pool. Whichever it is, it ends by its deadline.
"""

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from contextvars import copy_context
from typing import Final

from homing.calling import CurrentCall, enter_call
from homing.core import jsonrpc
from homing.core.links import FRAME_BYTES_MAX
from homing.core.machine import Action, Event, Finished, Start, Stop
from homing.core.methods import Method, invalid_params
from homing.errors import Outcome, failure
from homing.functions import Function
from homing.roles.python_answers import Answered, leave_if_forked, raised, returned
from homing.roles.python_child import Asked
from homing.roles.python_pool import Errand, Pool
from homing.roles.worker import STRICTNESS
from homing.telemetry import Log

GRACE_S: Final = 0.05
"""How long a function that was cancelled may take to say what it knows; then it is answered for, and not listened to any more."""


class Hands:
    """Does what the machine of a Python worker asks for. `feed` takes the events that come of it.

    `methods` are the functions' schemas compiled. A worker without `def`s has no pool.
    """

    feed: Callable[[Event], None]

    def __init__(
        self,
        functions: Mapping[str, Function],
        methods: Mapping[str, Method],
        pool: Pool | None,
        *,
        loop: asyncio.AbstractEventLoop,
        log: Log,
        outcome_bytes_max: int = FRAME_BYTES_MAX,
    ) -> None:
        self.outcome_bytes_max = outcome_bytes_max
        self.functions = functions
        self.methods = methods
        self.pool = pool
        self.loop = loop
        self.log = log
        self.running: dict[tuple[bytes, int], _Calling] = {}

    def act(self, action: Action) -> None:
        """Start or stop."""
        if type(action) is Start:
            begun = _Calling(self, action)
            try:
                begun.begin()
            except Exception as error:  # a fault of ours: it is answered all the same, and its slot is not lost
                begun.broke(error)
        elif type(action) is Stop:
            calling = self.running.get((action.call_id, action.number))
            if calling is not None:
                calling.stop("cancelled", "The worker stopped while the function ran.")


class _Calling:
    """One function under way: from Start to Finished, whatever happens between."""

    __slots__ = ("_errand", "_hands", "_schema", "_start", "_started_at", "_stopped", "_task", "_timer", "method")

    def __init__(self, hands: Hands, start: Start) -> None:
        self._hands = hands
        self._start = start
        self.method = start.method
        self._schema = hands.methods[start.method]
        self._started_at = time.monotonic()
        self._stopped: Outcome | None = None  # what to answer if the function has nothing better to say
        self._task: asyncio.Task[None] | None = None
        self._errand: Errand | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Validate, for a client of the broker had no gateway that did, and call."""
        start, hands = self._start, self._hands
        hands.running[start.call_id, start.number] = self
        function = hands.functions[start.method]
        if STRICTNESS[start.effect] < STRICTNESS[function.effect]:  # it would be called again, and must not be
            message = f"{start.method} is {function.effect!r} here, and was called as {start.effect!r}."
            self._later(Answered(failure("invalid_request", message, executed="no", again=False)))
            return
        try:
            params, text = jsonrpc.read_params(start.body)
            valid, errors = self._schema.validate(params)
        except ValueError as error:
            self._later(Answered(failure("invalid_params", str(error), executed="no", again=False)))
            return
        if errors:
            self._later(Answered(invalid_params(errors)))
            return
        if valid is not params:
            text = jsonrpc.encode_value(valid)
        call = CurrentCall(
            call_id=start.call_id.hex(),
            method=start.method,
            principal=start.principal,
            idempotency_key=self._schema.provider_key(start.principal, start.key),
            attempt=start.attempt,
            deadline=start.deadline,
        )
        self._timer = hands.loop.call_later(max(0.0, start.deadline - time.monotonic()), self._late)
        if function.is_async:
            context = copy_context()
            context.run(enter_call, call)
            self._task = hands.loop.create_task(self._await(function, text), name=function.name, context=context)
        else:
            assert hands.pool is not None, "there is one where there is a def"
            self._errand = Errand(Asked(call, text, hands.outcome_bytes_max), self._finish)
            hands.pool.run(self._errand)

    async def _await(self, function: Function, params: bytes) -> None:
        """The function as a task. KeyboardInterrupt and SystemExit end here too: they would end the loop, and every call with it."""
        process = os.getpid()
        try:
            result = await function.call(**function.arguments(params))  # type: ignore[misc]  # it is async
        except BaseException as error:
            if self._hands.loop.is_closed():
                raise  # it was left behind: nobody waits for what it has to say
            leave_if_forked(process, error)
            answered = raised(self.method, error)
            if self._stopped is not None and (
                isinstance(error, asyncio.CancelledError) or answered.outcome.reason == "internal_error"
            ):
                answered = Answered(self._stopped, "" if isinstance(error, asyncio.CancelledError) else answered.fault)
        else:
            leave_if_forked(process)
            answered = returned(self.method, result)
        self._finish(answered)

    def _late(self) -> None:
        self.stop(self._start.late, "The deadline passed while the function ran.")

    def stop(self, reason: str, message: str) -> None:
        """End it: a task is cancelled and has a moment left, a process is killed."""
        if self._stopped is not None:
            return
        self._stopped = failure(reason, message, executed="unknown", again=False)
        if self._timer is not None:
            self._timer.cancel()
        if self._task is not None:
            self._task.cancel()
            self._timer = self._hands.loop.call_later(GRACE_S, self._finish, Answered(self._stopped))
        elif self._errand is not None:
            assert self._hands.pool is not None, "it has the errand"
            if not self._hands.pool.stop(self._errand):
                self._stopped = failure(reason, "No process of the worker was free before that.", executed="no", again=False)
            self._later(Answered(self._stopped))

    def broke(self, error: Exception) -> None:
        """It could not be begun, or not wholly: how far it came nobody knows."""
        self._later(raised(self.method, error))

    def _later(self, answered: Answered) -> None:
        self._hands.loop.call_soon(self._finish, answered)

    def _finish(self, answered: Answered) -> None:
        start, hands = self._start, self._hands
        if hands.running.pop((start.call_id, start.number), None) is None:
            if answered.fault:  # it went on after it was told to stop, and came to this
                hands.log.event(
                    "fault", f"{self.method} broke off after its answer was given.", level="error", traceback=answered.fault
                )
            return
        if self._timer is not None:
            self._timer.cancel()
        outcome = answered.outcome
        try:
            if answered.fault:
                hands.log.event(
                    "fault",
                    f"{self.method} broke off.",
                    level="error",
                    method=self.method,
                    call_id=start.call_id.hex(),
                    traceback=answered.fault,
                )
            hands.log.call(start.call_id.hex(), self.method, start.principal, outcome, time.monotonic() - self._started_at)
        finally:  # whatever becomes of the log, the call is answered
            hands.feed(Finished(start.call_id, start.number, outcome))
