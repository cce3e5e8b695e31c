"""`Client` and `AsyncClient`: call a homing gateway from Python, with the promise kept on the last leg too.

A call returns its result or raises a `CallError`: `NotExecuted`, `OutcomeUnknown` or `Executed`, by what is proven. What happens
between this program and the gateway is judged as strictly as what happens behind it: a connection that was refused is
`NotExecuted`, one that was lost after the first byte of the request is `OutcomeUnknown`, and a proxy's own 502 proves nothing.
Such an error has `"leg": "gateway"` in its `data`.
"""

import itertools
import math
import os
import random
import secrets
import ssl
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self, TypeAlias, TypeVar, overload

import msgspec

from homing.client_blocking import BlockingLink
from homing.client_http import Endpoint, endpoint, head_of
from homing.client_rpc import Answer, Errand, Question, encode_params
from homing.errors import ROWS, CallError, Executed

URL: Final = "http://127.0.0.1:8370"
RETRIES: Final = 2
CONNECT_TIMEOUT_S: Final = 3.0

T = TypeVar("T")
BatchItem: TypeAlias = tuple[str, object] | tuple[str, object, str]
"""(method, params) or (method, params, idempotency_key)."""


class _Caller:
    """What both clients share: where to, with which API key, and what is asked."""

    def __init__(self, url: str | None, api_key: str | None, timeout: float | None, retries: int, connect_timeout: float) -> None:
        if api_key is None:
            api_key = os.environ.get("HOMING_API_KEY")
        self._place: Endpoint = endpoint(url or os.environ.get("HOMING_URL") or URL)
        self._head = head_of(self._place, api_key or None)
        self._timeout = None if timeout is None else _seconds("timeout", timeout)
        self._retries = _count(retries)
        self._connect_timeout = _seconds("connect_timeout", connect_timeout)
        # An answer is told by its id, which no other call has: 128 random bits of this client's, and a number.
        self._life = secrets.token_hex(16)
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._place)!r})"

    def _tls(self, ca: str | os.PathLike[str] | None) -> ssl.SSLContext | None:
        if not self._place.secure:
            if ca is not None:
                raise ValueError(f"ca is given, and {self._place} is not https://")
            return None
        context = ssl.create_default_context(cafile=ca)
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _question(self, method: str, params: object, idempotency_key: str | None = None) -> Question:
        if not isinstance(method, str):
            raise TypeError(f"a method is named by a string, not by {type(method).__name__}")
        if idempotency_key is not None and not isinstance(idempotency_key, str):
            raise TypeError(f"an idempotency key is a string, not {type(idempotency_key).__name__}")
        for text in (method, idempotency_key or ""):
            text.encode()  # a lone surrogate is a ValueError, and is better raised here
        return Question(f"{self._life}-{next(self._numbers)}", method, encode_params(params), idempotency_key)

    def _errand(self, questions: list[Question], *, alone: bool, timeout: float | None, retries: int | None) -> Errand:
        return Errand(
            questions,
            time.monotonic(),
            alone=alone,
            timeout=self._timeout if timeout is None else _seconds("timeout", timeout),
            retries=self._retries if retries is None else _count(retries),
            random=random.random,
        )

    def _batch(self, calls: Sequence[BatchItem], timeout: float | None, retries: int | None) -> Errand:
        return self._errand([self._question(*call) for call in calls], alone=False, timeout=timeout, retries=retries)

    def _notification(self, method: str, params: object, timeout: float | None, key: str | None) -> Errand:
        question = msgspec.structs.replace(self._question(method, params, key), id=None)
        return self._errand([question], alone=True, timeout=timeout, retries=None)


class Client(_Caller):
    """A blocking client. Threads may share one: each call has a connection to itself while it lasts.

    url: where the gateway is, without a path `/rpc` there. Default: HOMING_URL, else http://127.0.0.1:8370.
    api_key: default HOMING_API_KEY, else none.
    timeout: seconds for a call, retries and all; the gateway is told. None: each method's own deadline holds, and this client
        waits as long as a gateway grants (300 s, or what a heartbeat says).
    retries: how often to ask again, within the timeout, for what is proven not executed, was attempted by nobody, and time may
        mend: a refused connection, `overloaded`, `no_worker`, `draining` and their like.
    ca: a file of certificates to trust instead of the system's.
    connect_timeout: seconds for each of name look-up, TCP and TLS.

    Raises ValueError for arguments that cannot work, OSError for a `ca` that cannot be read.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | None = None,
        retries: int = RETRIES,
        ca: str | os.PathLike[str] | None = None,
        connect_timeout: float = CONNECT_TIMEOUT_S,
    ) -> None:
        super().__init__(url, api_key, timeout, retries, connect_timeout)
        self._link = BlockingLink(self._place, self._head, tls=self._tls(ca), connect_timeout=self._connect_timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections; calls that are under way end as they will. Afterwards calls raise RuntimeError."""
        self._link.close()

    @overload
    def call(
        self,
        method: str,
        params: object = None,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        retries: int | None = None,
    ) -> object: ...

    @overload
    def call(
        self,
        method: str,
        params: object = None,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        retries: int | None = None,
        result_type: type[T],
    ) -> T: ...

    def call(
        self,
        method: str,
        params: object = None,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        retries: int | None = None,
        result_type: type[object] | None = None,
    ) -> object:
        """Call a method and return its result, decoded; as `result_type`, if that is given (`msgspec.Raw` is the JSON as it came).

        Raises NotExecuted, OutcomeUnknown or Executed; ValueError or TypeError, before anything is sent, for what cannot be asked.
        """
        question = self._question(method, params, idempotency_key)
        errand = self._errand([question], alone=True, timeout=timeout, retries=retries)
        return _result(self._run(errand)[0], result_type)

    def batch(
        self, calls: Sequence[BatchItem], *, timeout: float | None = None, retries: int | None = None
    ) -> list[object | CallError]:
        """Make several calls in one request; return the result or the CallError of each, in the order given.

        A call is (method, params) or (method, params, idempotency_key). Only what cannot be asked is raised, as in `call`.
        """
        return [_result_or_error(answer) for answer in self._run(self._batch(calls, timeout, retries))]

    def notify(
        self, method: str, params: object = None, *, timeout: float | None = None, idempotency_key: str | None = None
    ) -> None:
        """Have a method carried out without an answer: returns when the gateway has admitted it. Raises as `call` does."""
        _result(self._run(self._notification(method, params, timeout, idempotency_key))[0], None)

    def _run(self, errand: Errand) -> list[Answer]:
        wait: float | None = 0.0 if errand.answers else None
        while wait is not None:
            time.sleep(wait)
            ending = self._link.exchange(errand)
            wait = errand.take(ending, time.monotonic())
        return errand.answers


class AsyncClient(_Caller):
    """`Client` for asyncio; see there for the arguments. It belongs to the event loop that uses it.

    Cancelling a call closes its connection, which a gateway takes for a hang-up: what has not begun is not begun any more, what
    has begun may have been carried out.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float | None = None,
        retries: int = RETRIES,
        ca: str | os.PathLike[str] | None = None,
        connect_timeout: float = CONNECT_TIMEOUT_S,
    ) -> None:
        from homing.client_asyncio import AsyncLink  # noqa: PLC0415  # asyncio takes 50 ms to import; Client has no use for it

        super().__init__(url, api_key, timeout, retries, connect_timeout)
        self._link = AsyncLink(self._place, self._head, tls=self._tls(ca), connect_timeout=self._connect_timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def close(self) -> None:
        """Close idle connections; calls that are under way end as they will. Afterwards calls raise RuntimeError."""
        await self._link.close()

    @overload
    async def call(
        self,
        method: str,
        params: object = None,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        retries: int | None = None,
    ) -> object: ...

    @overload
    async def call(
        self,
        method: str,
        params: object = None,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        retries: int | None = None,
        result_type: type[T],
    ) -> T: ...

    async def call(
        self,
        method: str,
        params: object = None,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        retries: int | None = None,
        result_type: type[object] | None = None,
    ) -> object:
        """Call a method and return its result, as `Client.call` does."""
        question = self._question(method, params, idempotency_key)
        errand = self._errand([question], alone=True, timeout=timeout, retries=retries)
        return _result((await self._run(errand))[0], result_type)

    async def batch(
        self, calls: Sequence[BatchItem], *, timeout: float | None = None, retries: int | None = None
    ) -> list[object | CallError]:
        """Make several calls in one request; return the result or the CallError of each, in the order given."""
        return [_result_or_error(answer) for answer in await self._run(self._batch(calls, timeout, retries))]

    async def notify(
        self, method: str, params: object = None, *, timeout: float | None = None, idempotency_key: str | None = None
    ) -> None:
        """Have a method carried out without an answer: returns when the gateway has admitted it."""
        _result((await self._run(self._notification(method, params, timeout, idempotency_key)))[0], None)

    async def _run(self, errand: Errand) -> list[Answer]:
        wait: float | None = 0.0 if errand.answers else None
        while wait is not None:
            if wait:
                await self._link.sleep(wait)
            ending = await self._link.exchange(errand)
            wait = errand.take(ending, time.monotonic())
        return errand.answers


def _result(answer: Answer, result_type: type[object] | None) -> object:
    if isinstance(answer, CallError):
        raise answer
    try:
        return msgspec.json.decode(answer) if result_type is None else msgspec.json.decode(answer, type=result_type)
    except (msgspec.DecodeError, RecursionError) as error:
        data = {"reason": "response_invalid", "executed": "yes", "retry": "unsafe", "body": answer.decode()}
        message = f"The call was carried out, and its result cannot be decoded here: {error}"
        raise Executed(ROWS["response_invalid"].code, message, data) from error


def _result_or_error(answer: Answer) -> object | CallError:
    try:
        return _result(answer, None)
    except CallError as error:
        return error


def _seconds(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is a positive number of seconds, not {value!r}")
    return float(value)


def _count(retries: int) -> int:
    if retries < 0:
        raise ValueError(f"retries is 0 or more, not {retries!r}")
    return retries
