"""What makes a provider believe that it is us: five kinds, one of which has to be fetched.

Secrets are in no repr, message or exception. A request gets its credentials last, just before it is written.
"""

import asyncio
import base64
import math
import re
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import quote, quote_plus, urlsplit

import msgspec

from homing.core.exchange import ExchangeFailed, ExchangeResult, HttpRequest
from homing.edges.provider import Provider, Running
from homing.edges.provider_request import header_problem, target_problem

FETCH_S: Final = 10.0  # for the token endpoint to answer
HOLD_S: Final = 1.0  # after it failed: until then everybody hears the same, and it is left alone
EARLY_S: Final = 60.0  # before its end a token is renewed, or after four fifths of its life if that is later
SAFETY_S: Final = 5.0  # before its end it is used no more, or one twentieth of its life
LIFE_S: Final = 3600.0  # of a token whose endpoint does not say
LIFE_MAX_S: Final = 1e12  # for ever; a number may be larger than any float
REFUSED_AGAIN_S: Final = 60.0  # a token that replaced a refused one and is refused so soon is not replaced again

_ERROR_CODE: Final = re.compile(r"[a-z_]{1,64}")  # RFC 6749 section 5.2

Prepared = Callable[[str | None], None]
"""Told None: the credentials are there; or why they are not."""


class Waiting:
    """Somebody who waits for credentials. After `cancel` nothing is told any more."""

    __slots__ = ("_done", "_timer")

    def __init__(self, done: Prepared) -> None:
        self._done: Prepared | None = done
        self._timer: asyncio.Handle | None = None

    def cancel(self) -> None:
        self._done = None
        if self._timer is not None:
            self._timer.cancel()

    def tell(self, why: str | None) -> None:
        done = self._done
        self.cancel()
        if done is not None:
            done(why)

    def tell_by(self, timer: asyncio.Handle) -> None:
        """Remember what will tell it."""
        self._timer = timer


class Credentials:
    """None are needed, and what all kinds have in common."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def ready(self, now: float) -> bool:
        """Whether `apply` has what it needs. May begin a fetch, well before it does not."""
        return True

    def prepare(self, deadline: float, done: Prepared) -> Waiting:
        """See to it that `apply` has what it needs. `done` is called once, later, by `deadline` (an instant of the loop's clock)."""
        waiting = Waiting(done)
        waiting.tell_by(self._loop.call_soon(waiting.tell, None))
        return waiting

    def apply(self, request: HttpRequest) -> HttpRequest:
        """Return the request with the credentials in it. The result must not be shown."""
        return request

    def refused(self, request: HttpRequest) -> bool:
        """The provider answered 401 to what `apply` returned. True: asking once more, after `prepare`, may help."""
        return False

    async def close(self) -> None:
        """End what is under way."""


class HeaderCredentials(Credentials):
    """A header of its own. Raises ValueError, without the value, if it cannot be sent."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, value: str) -> None:
        super().__init__(loop)
        if (problem := header_problem(name, value)) is not None:
            raise ValueError(problem)
        self._header = (name, value)

    def apply(self, request: HttpRequest) -> HttpRequest:
        return with_header(request, self._header)


class QueryCredentials(Credentials):
    """A parameter of the query."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str, value: str) -> None:
        super().__init__(loop)
        self._parameter = f"{quote(name, safe='')}={quote(value, safe='')}"

    def apply(self, request: HttpRequest) -> HttpRequest:
        return with_parameter(request, self._parameter)


class ClientCredentials(Credentials):
    """A token by the client credentials grant of OAuth 2.0 (RFC 6749 section 4.4).

    It is fetched once for all who wait, renewed early while the old one still serves, and once more after a 401. `provider` leads to
    the token endpoint and is closed with this; `target` is the endpoint's path, see `token_target`. Raises ValueError for a target
    that cannot be sent.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        provider: Provider,
        *,
        target: str,
        client_id: str,
        client_secret: str,
        scopes: Sequence[str] = (),
        fetch_timeout_s: float = FETCH_S,
    ) -> None:
        super().__init__(loop)
        if (problem := target_problem(target)) is not None:
            raise ValueError(problem)
        self._provider = provider
        self._fetch_timeout_s = fetch_timeout_s
        # Both are form-encoded before they are joined (RFC 6749 section 2.3.1), so a colon in them does no harm.
        pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
        form = "grant_type=client_credentials" + (f"&scope={quote_plus(' '.join(scopes))}" if scopes else "")
        self._request = HttpRequest(
            "POST",
            target,
            (
                ("Authorization", "Basic " + base64.b64encode(pair.encode()).decode()),
                ("Content-Type", "application/x-www-form-urlencoded"),
                ("Accept", "application/json"),
            ),
            form.encode("ascii"),
        )
        self._header: tuple[str, str] | None = None
        self._usable_until = self._renew_at = -math.inf
        self._replaced_at = -math.inf  # when the present token took the place of a refused one
        self._fetch: Running | None = None
        self._fetch_began = 0.0
        self._after_refusal = False
        self._hold_until = -math.inf
        self._why = ""
        self._waiting: dict[Waiting, None] = {}

    def ready(self, now: float) -> bool:
        if self._header is None or now >= self._usable_until:
            return False
        if now >= self._renew_at and now >= self._hold_until:
            self._begin_fetch(now)
        return True

    def prepare(self, deadline: float, done: Prepared) -> Waiting:
        now = self._loop.time()
        waiting = Waiting(done)
        if self.ready(now):
            waiting.tell_by(self._loop.call_soon(waiting.tell, None))
        elif self._fetch is None and now < self._hold_until:
            waiting.tell_by(self._loop.call_soon(waiting.tell, self._why))
        else:
            self._waiting[waiting] = None
            waiting.tell_by(self._loop.call_at(deadline, self._too_late, waiting))
            self._begin_fetch(now)
        return waiting

    def apply(self, request: HttpRequest) -> HttpRequest:
        if self._header is None:
            return request
        return with_header(request, self._header)

    def refused(self, request: HttpRequest) -> bool:
        if self._header is None or self._header not in request.headers:
            return True  # another one refused the same token before, and it is being replaced, or was
        now = self._loop.time()
        if now < self._replaced_at + REFUSED_AGAIN_S:
            return False
        self._header = None
        self._after_refusal = True
        return True

    async def close(self) -> None:
        if self._fetch is not None:
            self._fetch.cancel()
        await self._provider.close()

    def _begin_fetch(self, now: float) -> None:
        if self._fetch is not None:
            return
        self._fetch_began = now
        self._fetch = self._provider.exchange(self._request, now + self._fetch_timeout_s, True, self._fetched)

    def _fetched(self, result: ExchangeResult) -> None:
        self._fetch = None
        why = self._take(result)
        if why is not None:
            self._why = f"no access token: {why}"
            self._hold_until = self._loop.time() + HOLD_S
        waiting, self._waiting = self._waiting, {}
        for one in waiting:
            try:
                one.tell(None if why is None else self._why)
            except Exception as error:  # the others must hear of it all the same
                context = {"message": "somebody who waited for an access token raised", "exception": error}
                self._loop.call_exception_handler(context)

    def _take(self, result: ExchangeResult) -> str | None:
        """Keep the token of an answer, or say why there is none."""
        if isinstance(result, ExchangeFailed):
            return result.message
        try:
            answer = msgspec.json.decode(result.body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            answer = None
        fields = answer if isinstance(answer, dict) else {}
        code = fields.get("error")
        shown = f" ({code})" if isinstance(code, str) and _ERROR_CODE.fullmatch(code) else ""
        if result.status != 200:
            return f"{self._provider.authority} answered {result.status}{shown}"
        token, kind = fields.get("access_token"), fields.get("token_type", "Bearer")
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable() or " " in token:
            return f"{self._provider.authority} sent no access_token{shown}"  # some say what is wrong with a 200
        if not isinstance(kind, str) or kind.lower() != "bearer":
            return f"{self._provider.authority} sent a token of another type than Bearer"
        life_s = _life_s(fields.get("expires_in"))
        if life_s <= 0:
            return f"{self._provider.authority} sent a token that has expired"
        end = self._fetch_began + life_s  # counted from before it was made: rather too early than too late
        self._header = ("Authorization", f"Bearer {token}")
        self._usable_until = end - min(SAFETY_S, life_s / 20)
        self._renew_at = end - min(EARLY_S, life_s / 5)
        self._replaced_at = self._loop.time() if self._after_refusal else -math.inf
        self._after_refusal = False
        return None

    def _too_late(self, waiting: Waiting) -> None:
        self._waiting.pop(waiting, None)
        waiting.tell("no access token: it did not come in time")


def bearer(loop: asyncio.AbstractEventLoop, token: str) -> Credentials:
    """`Authorization: Bearer …` (RFC 6750). Raises ValueError for a token that cannot be sent."""
    return HeaderCredentials(loop, "Authorization", f"Bearer {token}")


def basic(loop: asyncio.AbstractEventLoop, username: str, password: str) -> Credentials:
    """`Authorization: Basic …` (RFC 7617), in UTF-8. Raises ValueError for a user name with a colon."""
    if ":" in username:
        raise ValueError("a user name holds no colon")
    return HeaderCredentials(loop, "Authorization", "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode())


def token_target(token_url: str) -> str:
    """Return the request target of a token endpoint; its scheme, host and port are the provider's `base_url`."""
    parts = urlsplit(token_url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def with_header(request: HttpRequest, header: tuple[str, str]) -> HttpRequest:
    """The credentials' header takes the place of any other of its name."""
    name = header[0].lower()
    others = tuple([other for other in request.headers if other[0].lower() != name])
    return HttpRequest(request.method, request.target, (*others, header), request.body)


def with_parameter(request: HttpRequest, parameter: str) -> HttpRequest:
    """The credentials' parameter, percent-encoded, stands behind all others."""
    target = request.target
    joint = "?" if "?" not in target else "" if target[-1] in "?&" else "&"
    return HttpRequest(request.method, f"{target}{joint}{parameter}", request.headers, request.body)


def _life_s(expires_in: object) -> float:
    """Seconds; some endpoints send them as a string."""
    if isinstance(expires_in, str) and expires_in.isascii() and expires_in.isdigit():
        return float(expires_in)
    if isinstance(expires_in, int | float) and not isinstance(expires_in, bool):
        return float(min(expires_in, LIFE_MAX_S))
    return LIFE_S
