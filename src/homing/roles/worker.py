"""The worker's hands: what its machine starts, they ask of the provider, and say how it ended."""

import time
from collections.abc import Callable, Mapping

import msgspec

from homing.core import jsonrpc
from homing.core.exchange import ExchangeFailed, ExchangeResult, HttpRequest, HttpResponse
from homing.core.machine import Action, Event, Finished, Prepare, Prepared, Start, Stop
from homing.core.methods import Method, invalid_params
from homing.core.scalars import path_under
from homing.core.specs import CallInfo, MappingError
from homing.edges.credentials import Credentials, Waiting
from homing.edges.provider import Provider, Running
from homing.errors import Effect, Outcome, ParamError, failure


class Remote(msgspec.Struct, frozen=True):
    """One provider as the worker reaches it. `request_id_header` is lower-case, "" for none."""

    name: str
    edge: Provider
    credentials: Credentials | None
    request_id_header: str = ""

    async def close(self) -> None:
        """Close what is open towards it."""
        await self.edge.close()
        if self.credentials is not None:
            await self.credentials.close()


class Hands:
    """Does what the worker's machine asks for. `feed` takes the events that come of it.

    `looked_at(call_id)` says whether this process has validated a call's params itself, as its gateway; None: always. What comes
    from elsewhere may have met no gateway, and is validated before anything is sent.
    """

    feed: Callable[[Event], None]

    def __init__(
        self,
        methods: Mapping[str, Method],
        remotes: Mapping[str, Remote],
        *,
        fault: Callable[[str, BaseException], None],
        soon: Callable[[Callable[[], None]], object],
        looked_at: Callable[[bytes], bool] | None = None,
    ) -> None:
        self.looked_at = looked_at
        self.methods = methods
        self.remotes = remotes
        self.running: dict[tuple[bytes, int], _Asking] = {}
        self.fault = fault
        self.soon = soon

    def act(self, action: Action) -> None:
        """Start, stop, or have an access token ready."""
        if type(action) is Start:
            _Asking(self, action).begin()
        elif type(action) is Stop:
            asking = self.running.get((action.call_id, action.number))
            if asking is not None:
                asking.stop()
        elif type(action) is Prepare:
            self._prepare(action)

    def _prepare(self, prepare: Prepare) -> None:
        credentials = self.remotes[prepare.provider].credentials

        def prepared(problem: str | None) -> None:
            self.feed(Prepared(prepare.call_id, problem))

        if credentials is None or credentials.ready(time.monotonic()):
            self.soon(lambda: prepared(None))
        else:
            credentials.prepare(prepare.deadline, prepared)


STRICTNESS: dict[Effect, int] = {"safe": 0, "keyed": 1, "once": 2}


class _Asking:
    """One exchange under way: from Start to Finished, whatever happens between."""

    __slots__ = ("_hands", "_method", "_remote", "_renewed", "_request", "_running", "_start", "_waiting")

    def __init__(self, hands: Hands, start: Start) -> None:
        self._hands = hands
        self._start = start
        self._method = hands.methods[start.method]
        self._remote = hands.remotes[start.provider]
        self._request: HttpRequest | None = None  # as it went out, where credentials were put into it
        self._running: Running | None = None
        self._waiting: Waiting | None = None
        self._renewed = False  # a lookup's access token was refused, and it is asked again with another

    def begin(self) -> None:
        """Ask the provider. The credentials were in hand before the claim: by now they may be refused, or, at a lookup, expired."""
        start, credentials = self._start, self._remote.credentials
        self._hands.running[start.call_id, start.number] = self
        if credentials is not None and not credentials.ready(time.monotonic()):
            self._waiting = credentials.prepare(start.deadline, self._prepared)
        else:
            self._ask()

    def stop(self) -> None:
        """Give up. What was asked is heard of on the loop's next turn."""
        if self._running is not None:
            self._running.cancel()
        elif self._waiting is not None:
            self._waiting.cancel()
            self._later(failure("cancelled", "It was given up while it waited for an access token.", executed="no"))

    def _prepared(self, problem: str | None) -> None:
        self._waiting = None
        if problem is None:
            self._ask()
        else:
            self._finish(failure("provider_unreachable", problem), None)

    def _ask(self) -> None:
        """Render the request and hand it to the edge. What fails here is proven no: not a byte has left."""
        start, remote = self._start, self._remote
        try:
            looked_at = self._hands.looked_at
            if looked_at is not None and not looked_at(start.call_id):
                invalid = self._invalid(start)
                if invalid is not None:
                    self._later(invalid)
                    return
                start = self._start
            request = None if start.lookup else self._method.render_untouched(start.body)
            if request is None:
                request = self._render(start)
            if remote.credentials is not None:
                request = self._request = remote.credentials.apply(request)
            # A lookup might be repeated, but is not: it gets no connection either that may be dying.
            self._running = remote.edge.exchange(request, start.deadline, start.effect == "once" or start.lookup, self.done)
        except MappingError as error:
            errors = (ParamError(error.path, error.message),)
            self._later(failure("invalid_params", error.message, errors=errors, again=False))
        except BaseException as error:  # or else nobody would answer the call
            self._hands.fault(start.method, error)
            self._later(failure("internal_error", "The request could not be made.", executed="no", again=False))

    def _invalid(self, start: Start) -> Outcome | None:
        """What is wrong with a call; if nothing, its params are from now on what was validated, and an object."""
        if STRICTNESS[start.effect] < STRICTNESS[self._method.effect]:  # it would be asked again, and must not be
            message = f"{start.method} is {self._method.effect!r} here, and was called as {start.effect!r}."
            return failure("invalid_request", message, executed="no", again=False)
        try:
            params, text = jsonrpc.read_params(start.body)
        except ValueError as error:
            return failure("invalid_params", str(error), executed="no", again=False)
        valid, errors = self._method.validate(params)
        if errors:
            return invalid_params(errors)
        if valid is not params:
            text = jsonrpc.encode_value(valid)
        if text != start.body:
            self._start = msgspec.structs.replace(start, body=text)
        return None

    def _render(self, start: Start) -> HttpRequest:
        """The request, made from all that it depends on."""
        method = self._method
        text = start.body
        key = method.provider_key(start.principal, start.key) if start.lookup or method.uses_key else ""
        call = CallInfo(start.call_id.hex(), key, start.principal, start.attempt)
        if start.lookup:
            return method.render_lookup(jsonrpc.decode_value(text) if text else None, call)
        if not method.needs_params and text.startswith(b"{"):
            return method.render({}, text, call)
        return method.render(jsonrpc.decode_value(text) if text else None, text, call)

    def _later(self, outcome: Outcome) -> None:
        self._hands.soon(lambda: self._finish(outcome, None))

    def done(self, result: ExchangeResult) -> None:
        """The edge says how the exchange ended."""
        try:
            if isinstance(result, HttpResponse):
                if self._start.lookup and result.status == 401 and self._renews():
                    return
                outcome = self._read(result)
                header = self._remote.request_id_header
                self._finish(outcome, result.headers.get(header) if header else None)
            else:
                self._finish(self._read_failure(result), None)
        except BaseException as error:  # or else nobody would answer the call
            self._hands.fault(self._start.method, error)
            self._finish(failure("internal_error", "The provider's answer could not be read."), None)

    def _renews(self) -> bool:
        """Whether a lookup is asked again, once, for what its call was sent with is refused by now."""
        credentials, sent = self._remote.credentials, self._request
        if self._renewed or credentials is None or sent is None or not credentials.refused(sent):
            return False
        self._renewed = True
        self._running = None
        self._waiting = credentials.prepare(self._start.deadline, self._prepared)
        return True

    def _read(self, response: HttpResponse) -> Outcome:
        if self._start.lookup:
            found = self._method.interpret_lookup(response)
            if found is None:
                return failure("provider_failed", "The lookup did not find the call.")
            return Outcome(reason="ok", executed="yes", result=found, status=response.status)
        outcome = self._method.interpret(response, time.time())
        if outcome.reason == "provider_denied":
            credentials, sent = self._remote.credentials, self._request
            renewed = response.status == 401 and credentials is not None and sent is not None and credentials.refused(sent)
            outcome.again = renewed and outcome.again  # a row may forbid it; the next call has the new token all the same
        return outcome

    def _read_failure(self, failed: ExchangeFailed) -> Outcome:
        reason: str = failed.reason
        message = failed.message
        if failed.reason == "timed_out":
            reason = self._start.late
            if reason != "provider_timeout":
                message = "The deadline passed while the provider was being asked."
            elif failed.executed == "no":
                reason = "provider_unreachable"
                message = f"Provider {self._start.provider!r} was not reached within its timeout.attempt."
            else:
                message = f"Provider {self._start.provider!r} took longer than its timeout.attempt."
        limit = f"{path_under('providers', self._start.provider)}.response_max"
        outcome = failure(reason, message, executed=failed.executed, limit=limit if reason == "response_too_large" else None)
        outcome.status = failed.status
        return outcome

    def _finish(self, outcome: Outcome, request_id: str | None) -> None:
        start = self._start
        if self._hands.running.pop((start.call_id, start.number), None) is not None:
            self._hands.feed(Finished(start.call_id, start.number, outcome, request_id))
