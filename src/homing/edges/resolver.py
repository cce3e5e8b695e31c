"""Names to addresses: one lookup per host at a time, on threads of its own, however many wait for it.

The system's resolver knows /etc/hosts, search domains and whatever else the machine was given, so it is asked (getaddrinfo) and not
imitated. It cannot be interrupted, though: whoever waits may stop waiting, the lookup goes on and its answer is kept for the next.
"""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

import msgspec

FOUND_S: Final = 10.0  # how long addresses are believed: getaddrinfo does not say how long they may be
UNKNOWN_S: Final = 1.0  # how long a failure is
HOSTS_MAX: Final = 1024
THREADS_MAX: Final = 8  # lookups that hang must not use up the threads of others, nor of the machine


class Address(msgspec.Struct, frozen=True):
    """Where to connect to. `host` is an IP literal; `scope` is 0 but for link-local IPv6."""

    family: int
    host: str
    scope: int = 0

    def with_port(self, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
        """Return it as `socket.connect` takes it."""
        return (self.host, port, 0, self.scope) if self.family == socket.AF_INET6 else (self.host, port)


Lookup: TypeAlias = Callable[[str], list[Address]]
"""Blocks and returns the addresses of a host in order of preference, or raises OSError or UnicodeError."""


class ResolveFailed(Exception):
    """The host has no address that could be found; the message says why."""


def system_lookup(host: str) -> list[Address]:
    """Ask the system; the order is that of RFC 6724."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = [Address(int(family), str(where[0]), int(where[3]) if len(where) == 4 else 0) for family, _, _, _, where in found]
    return list(dict.fromkeys(addresses))


class _Known:
    """What the last lookup of a host said, and until when it is believed."""

    __slots__ = ("addresses", "problem", "until")

    def __init__(self, addresses: list[Address], problem: str, until: float) -> None:
        self.addresses, self.problem, self.until = addresses, problem, until


class Resolver:
    """Belongs to one loop; several providers may share it."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        lookup: Lookup = system_lookup,
        *,
        found_s: float = FOUND_S,
        unknown_s: float = UNKNOWN_S,
        threads_max: int = THREADS_MAX,
    ) -> None:
        self._loop = loop
        self._lookup = lookup
        self._found_s, self._unknown_s, self._threads_max = found_s, unknown_s, threads_max
        self._known: dict[str, _Known] = {}
        self._waiting: dict[str, list[asyncio.Future[_Known]]] = {}  # hosts whose lookup is under way or stands in line
        self._line: deque[str] = deque()
        self.threads = 0

    async def resolve(self, host: str) -> list[Address]:
        """Return the addresses of `host`, at least one. Raises ResolveFailed. Has no bound of its own: the caller cancels it."""
        if (literal := _literal(host)) is not None:
            return [literal]
        known = self._known.get(host)
        if known is None or self._loop.time() >= known.until:
            known = await self._join(host)
        if known.problem:
            raise ResolveFailed(known.problem)
        return known.addresses

    async def _join(self, host: str) -> _Known:
        """Wait for the one lookup of `host`, beginning it if there is none."""
        waiting = self._waiting.get(host)
        if waiting is None:
            waiting = self._waiting[host] = []
            self._line.append(host)
            self._fly()
        future: asyncio.Future[_Known] = self._loop.create_future()
        waiting.append(future)
        try:
            return await future
        finally:
            if future.cancelled():
                waiting.remove(future)

    def _fly(self) -> None:
        while self._line and self.threads < self._threads_max:
            host = self._line.popleft()
            self.threads += 1
            try:
                threading.Thread(target=self._fly_one, args=(host,), name=f"resolve {host}", daemon=True).start()
            except RuntimeError as error:  # the machine has no thread left; or else everybody would wait for this one for ever
                self._loop.call_soon(self._landed, host, [], str(error))

    def _fly_one(self, host: str) -> None:
        """Run on a thread of its own. A daemon: a lookup that hangs must not keep the process from ending."""
        addresses: list[Address] = []
        problem = ""
        try:
            addresses = self._lookup(host)
            if not addresses:
                problem = "it has no address"
        except socket.gaierror as error:
            problem = error.strerror or "the name could not be looked up"
        except (OSError, UnicodeError) as error:
            problem = str(error) or type(error).__name__
        except Exception as error:
            problem = f"the lookup broke: {error!r}"
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
            self._loop.call_soon_threadsafe(self._landed, host, addresses, problem)

    def _landed(self, host: str, addresses: list[Address], problem: str) -> None:
        self.threads -= 1
        now = self._loop.time()
        known = _Known(addresses, problem, now + (self._unknown_s if problem else self._found_s))
        if len(self._known) >= HOSTS_MAX:
            self._known = {name: other for name, other in self._known.items() if now < other.until}
        if len(self._known) < HOSTS_MAX:
            self._known[host] = known
        for future in self._waiting.pop(host):
            if not future.done():
                future.set_result(known)
        self._fly()


def _literal(host: str) -> Address | None:
    """An IP address needs no lookup."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return Address(socket.AF_INET, str(address))
    scope = 0
    if address.scope_id:
        try:
            scope = int(address.scope_id) if address.scope_id.isdigit() else socket.if_nametoindex(address.scope_id)
        except OSError:
            return None  # no such interface: let the system's lookup find the words
    return Address(socket.AF_INET6, str(address).partition("%")[0], scope)
