"""`Client` and `AsyncClient`: call a homing gateway or broker from Python, with the promise kept on the last leg too.

A call returns its result or raises a `CallError`: `NotExecuted`, `OutcomeUnknown` or `Executed`, by what is proven. What happens
between this program and the gateway is judged as strictly as what happens behind it: a connection that was refused is
`NotExecuted`, one that was lost after the first byte of the request is `OutcomeUnknown`, and a proxy's own 502 proves nothing.
Such an error has `"leg": "gateway"` in its `data`. To a broker there is no such leg: the client itself owns its calls.
"""

import itertools
import math
import os
import random
import secrets
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeAlias, TypeVar, get_args, overload

import msgspec

from homing.client_blocking import BlockingLink
from homing.client_http import Endpoint, endpoint, head_of
from homing.client_rpc import Answer, Errand, Question, encode_params
from homing.errors import ROWS, CallError, Effect, Executed

if TYPE_CHECKING:
    from homing.client_zmq import Brokers

URL: Final = "http://127.0.0.1:8370"
RETRIES: Final = 2
CONNECT_TIMEOUT_S: Final = 3.0

T = TypeVar("T")
BatchItem: TypeAlias = tuple[str, object] | tuple[str, object, str]
"""(method, params) or (method, params, idempotency_key)."""


class Link(Protocol):
    """A way to a gateway or to brokers."""

    def ask(self, errand: Errand) -> float | None: ...
    def close(self) -> None: ...


class WaitingLink(Protocol):
    """The same for asyncio."""

    async def ask(self, errand: Errand) -> float | None: ...
    async def sleep(self, seconds: float) -> None: ...
    async def close(self) -> None: ...


class _Caller:
    """What both clients share: where to, as whom, and what is asked."""

    def __init__(
        self,
        url: str | Sequence[str] | None = None,
        *,
        api_key: str | None = None,
        timeout: float | None = None,
        retries: int = RETRIES,
        ca: str | os.PathLike[str] | None = None,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        curve: str | os.PathLike[str] | None = None,
        broker_key: str | None = None,
        principal: str | None = None,
        insecure: bool = False,
    ) -> None:
        if url is None or url == "":
            url = os.environ.get("HOMING_URL") or URL
        self._timeout = None if timeout is None else _seconds("timeout", timeout)
        self._retries = _count(retries)
        connect_timeout = _seconds("connect_timeout", connect_timeout)
        self._brokers: Brokers | None = None
        if not isinstance(url, str) or url.lstrip().startswith(("tcp://", "ipc://")):
            from homing.client_zmq import brokers  # noqa: PLC0415  # zmq and asyncio are for those who use them

            if api_key:
                raise ValueError(
                    "api_key is for gateways; a broker knows callers by their CURVE keys: give curve= and broker_key="
                )
            if ca is not None:
                raise ValueError(f"ca is given, and {url} is not https://")
            self._brokers = brokers(url, curve=curve, broker_key=broker_key, principal=principal, insecure=insecure)
            self._join_brokers(self._brokers)
            self._place = str(self._brokers)
        else:
            for name, given in (("curve", curve), ("broker_key", broker_key), ("principal", principal), ("insecure", insecure)):
                if given:
                    raise ValueError(f"{name} is for brokers, and {url!r} begins with neither tcp:// nor ipc://")
            place = endpoint(url)
            head = head_of(place, (os.environ.get("HOMING_API_KEY") if api_key is None else api_key) or None)
            self._join_gateway(place, head, _tls(place, ca), connect_timeout)
            self._place = str(place)
        # An answer is told by its id, which no other call has: 128 random bits of this client's, and a number.
        self._life = secrets.token_hex(16)
        self._numbers = itertools.count(1)

    def _join_brokers(self, brokers: "Brokers") -> None:
        raise NotImplementedError

    def _join_gateway(self, place: Endpoint, head: bytes, tls: ssl.SSLContext | None, connect_timeout: float) -> None:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._place!r})"

    def _question(
        self,
        method: str,
        params: object,
        idempotency_key: str | None = None,
        service: str | None = None,
        effect: Effect | None = None,
    ) -> Question:
        if not isinstance(method, str):
            raise TypeError(f"a method is named by a string, not by {type(method).__name__}")
        if idempotency_key is not None and not isinstance(idempotency_key, str):
            raise TypeError(f"an idempotency key is a string, not {type(idempotency_key).__name__}")
        if self._brokers is None and (service is not None or effect is not None):
            raise ValueError("service and effect are for brokers: a gateway knows those of each method from its configuration")
        if service is not None and not isinstance(service, str):
            raise TypeError(f"a service is named by a string, not by {type(service).__name__}")
        if service is not None and not 1 <= len(service) <= 256:
            raise ValueError(f"a service's name has 1 to 256 characters, not {len(service)}")
        if effect is not None and effect not in get_args(Effect):
            raise ValueError(f"an effect is once, keyed or safe, not {effect!r}")
        for text in (method, idempotency_key or "", service or ""):
            text.encode()  # a lone surrogate is a ValueError, and is better raised here
        request_id = f"{self._life}-{next(self._numbers)}"
        return Question(request_id, method, encode_params(params), idempotency_key, service, effect)

    def _errand(self, questions: list[Question], *, alone: bool, timeout: float | None, retries: int | None) -> Errand:
        return Errand(
            questions,
            time.monotonic(),
            alone=alone,
            timeout=self._timeout if timeout is None else _seconds("timeout", timeout),
            retries=self._retries if retries is None else _count(retries),
            random=random.random,
        )

    def _batch(self, calls: Iterable[BatchItem], timeout: float | None, retries: int | None) -> Errand:
        calls = list(calls)
        for call in calls:
            _look_at(call)
        return self._errand([self._question(*call) for call in calls], alone=False, timeout=timeout, retries=retries)

    def _notification(self, question: Question, timeout: float | None) -> Errand:
        question = msgspec.structs.replace(question, id=None)
        return self._errand([question], alone=True, timeout=timeout, retries=None)


class Client(_Caller):
    """A blocking client. Threads may share one: each call has a connection to itself while it lasts; those to brokers are shared.

    url: where the gateway is, without a path `/rpc` there. Default: HOMING_URL, else http://127.0.0.1:8370. Or brokers, one or
        several: "tcp://10.0.0.5:8372,tcp://10.0.0.6:8372", a list of such, or "ipc://PATH".
    api_key: for a gateway. Default HOMING_API_KEY, else none.
    timeout: seconds for a call, retries and all; the gateway is told. None: each method's own deadline holds, and this client
        waits as long as a gateway grants (300 s, or what a heartbeat says). To brokers: the method's own, else 100 s.
    retries: how often to ask again, within the timeout, for what is proven not executed, was attempted by nobody, and time may
        mend: a refused connection, `overloaded`, `no_worker`, `draining` and their like.
    ca: a file of certificates to trust instead of the system's.
    connect_timeout: seconds for each of name look-up, TCP and TLS; brokers are dialled until they are there.
    curve, broker_key: for brokers. The file with this client's keys that `homing keys curve NAME` wrote, and the brokers' public
        key. Required off this machine, unless `insecure` says that anybody may read, forge and drop what is said.
    principal: in whose name to call, where the broker lets the key call in several. Default: the key's own.

    Raises ValueError for arguments that cannot work, OSError for a `ca` that cannot be read.
    """

    _link: Link

    def _join_brokers(self, brokers: "Brokers") -> None:
        from homing.client_zmq import BlockingBrokerLink  # noqa: PLC0415  # as above

        self._link = BlockingBrokerLink(brokers)

    def _join_gateway(self, place: Endpoint, head: bytes, tls: ssl.SSLContext | None, connect_timeout: float) -> None:
        self._link = BlockingLink(place, head, tls=tls, connect_timeout=connect_timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close idle connections; calls that are under way end as they will. Afterwards calls raise RuntimeError.

        To brokers, calls under way end here: NotExecuted where none had begun, else OutcomeUnknown.
        """
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
        service: str | None = None,
        effect: Effect | None = None,
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
        service: str | None = None,
        effect: Effect | None = None,
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
        service: str | None = None,
        effect: Effect | None = None,
        result_type: type[object] | None = None,
    ) -> object:
        """Call a method and return its result, decoded; as `result_type`, if that is given (`msgspec.Raw` is the JSON as it came).

        `service` and `effect` are for brokers, where no worker says them of the method. Default: what stands before the method's
        first dot, and "once".

        Raises NotExecuted, OutcomeUnknown or Executed; ValueError or TypeError, before anything is sent, for what cannot be asked.
        """
        decode = _decoder(result_type)
        question = self._question(method, params, idempotency_key, service, effect)
        errand = self._errand([question], alone=True, timeout=timeout, retries=retries)
        return _result(self._run(errand)[0], decode)

    def batch(
        self, calls: Iterable[BatchItem], *, timeout: float | None = None, retries: int | None = None
    ) -> list[object | CallError]:
        """Make several calls in one request; return the result or the CallError of each, in the order given.

        A call is (method, params) or (method, params, idempotency_key). Only what cannot be asked is raised, as in `call`.
        """
        return [_result_or_error(answer) for answer in self._run(self._batch(calls, timeout, retries))]

    def notify(
        self,
        method: str,
        params: object = None,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        service: str | None = None,
        effect: Effect | None = None,
    ) -> None:
        """Have a method carried out without an answer: returns when the gateway has taken it. Raises as `call` does.

        Nobody is told what becomes of it, nor that the gateway refused it for its method or params: only what refuses any request,
        a wrong API key or a gateway that is draining, is raised. To brokers the client owns the call itself, and waits for its end.
        """
        question = self._question(method, params, idempotency_key, service, effect)
        _result(self._run(self._notification(question, timeout))[0])

    def _run(self, errand: Errand) -> list[Answer]:
        wait: float | None = 0.0 if errand.answers else None
        while wait is not None:
            time.sleep(wait)
            wait = self._link.ask(errand)
        return errand.answers


class AsyncClient(_Caller):
    """`Client` for asyncio; see there for the arguments. It belongs to the event loop that uses it.

    Cancelling a call closes its connection, which a gateway takes for a hang-up, or tells the brokers: what has not begun is not
    begun any more, what has begun may have been carried out.
    """

    _link: WaitingLink

    def _join_brokers(self, brokers: "Brokers") -> None:
        from homing.client_zmq import AsyncBrokerLink  # noqa: PLC0415  # as above

        self._link = AsyncBrokerLink(brokers)

    def _join_gateway(self, place: Endpoint, head: bytes, tls: ssl.SSLContext | None, connect_timeout: float) -> None:
        from homing.client_asyncio import AsyncLink  # noqa: PLC0415  # asyncio takes 50 ms to import; Client has no use for it

        self._link = AsyncLink(place, head, tls=tls, connect_timeout=connect_timeout)

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
        service: str | None = None,
        effect: Effect | None = None,
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
        service: str | None = None,
        effect: Effect | None = None,
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
        service: str | None = None,
        effect: Effect | None = None,
        result_type: type[object] | None = None,
    ) -> object:
        """Call a method and return its result, as `Client.call` does."""
        decode = _decoder(result_type)
        question = self._question(method, params, idempotency_key, service, effect)
        errand = self._errand([question], alone=True, timeout=timeout, retries=retries)
        return _result((await self._run(errand))[0], decode)

    async def batch(
        self, calls: Iterable[BatchItem], *, timeout: float | None = None, retries: int | None = None
    ) -> list[object | CallError]:
        """Make several calls in one request; return the result or the CallError of each, in the order given."""
        return [_result_or_error(answer) for answer in await self._run(self._batch(calls, timeout, retries))]

    async def notify(
        self,
        method: str,
        params: object = None,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        service: str | None = None,
        effect: Effect | None = None,
    ) -> None:
        """Have a method carried out without an answer, as `Client.notify` does."""
        question = self._question(method, params, idempotency_key, service, effect)
        _result((await self._run(self._notification(question, timeout)))[0])

    async def _run(self, errand: Errand) -> list[Answer]:
        wait: float | None = 0.0 if errand.answers else None
        while wait is not None:
            if wait:
                await self._link.sleep(wait)
            wait = await self._link.ask(errand)
        return errand.answers


def _look_at(call: object) -> None:
    """Raise TypeError for what is no call of a batch."""
    if not isinstance(call, tuple | list) or not 2 <= len(call) <= 3:
        raise TypeError(f"a call of a batch is (method, params) or (method, params, idempotency_key), not {repr(call)[:100]}")


def _decoder(result_type: type[object] | None) -> Callable[[bytes], object]:
    """How a result is decoded. Raises TypeError, before anything is asked, for a type that msgspec decodes nothing as."""
    return msgspec.json.decode if result_type is None else msgspec.json.Decoder(result_type).decode


def _result(answer: Answer, decode: Callable[[bytes], object] = msgspec.json.decode) -> object:
    if isinstance(answer, CallError):
        raise answer
    try:
        return decode(answer)
    except Exception as error:  # a type may have hooks of its own, which raise what they like
        data = {"reason": "response_invalid", "executed": "yes", "retry": "unsafe", "body": answer.decode()}
        message = f"The call was carried out, and its result cannot be decoded here: {str(error) or type(error).__name__}"
        raise Executed(ROWS["response_invalid"].code, message, data) from error


def _result_or_error(answer: Answer) -> object | CallError:
    try:
        return _result(answer)
    except CallError as error:
        return error


def _tls(place: Endpoint, ca: str | os.PathLike[str] | None) -> ssl.SSLContext | None:
    if not place.secure:
        if ca is not None:
            raise ValueError(f"ca is given, and {place} is not https://")
        return None
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:
        error.filename = error.filename or ca  # the one thing it does not say
        raise
    context.set_alpn_protocols(["http/1.1"])
    return context


def _seconds(name: str, value: float) -> float:
    try:
        fits = math.isfinite(value) and value > 0
    except OverflowError:  # an int that no float holds
        fits = False
    except TypeError:
        raise TypeError(f"{name} is a number of seconds, not {value!r}") from None
    if not fits:
        raise ValueError(f"{name} is a positive number of seconds, not {repr(value)[:40]}")
    return float(value)


def _count(retries: int) -> int:
    if retries < 0:
        raise ValueError(f"retries is 0 or more, not {retries!r}")
    return retries
