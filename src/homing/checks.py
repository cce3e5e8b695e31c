"""What is wrong or unwise about a configuration whose every value is right by itself."""

import difflib
import ssl
from collections.abc import Iterable
from typing import Protocol

import msgspec

from homing.settings import Config, Gateway, Method, Principal, Provider
from homing.sources import KeyPath, show_path
from homing.units import format_duration

BALANCER_CUTS_AFTER_S = 60.0


class Report(Protocol):
    """Takes one problem."""

    def __call__(self, path: KeyPath, message: str, *, warning: bool = False) -> None: ...


class Names(msgspec.Struct, frozen=True):
    """What the files name, tables that are wrong included: nobody is told that those are missing.

    `doubtful` are methods with mistakes of their own, whose values may be stand-ins: what would be unwise about those is not said.
    """

    providers: frozenset[str]
    methods: frozenset[str]
    doubtful: frozenset[str] = frozenset()


def matches(pattern: str, method: str) -> bool:
    """Whether a method pattern, exact or a beginning and `*`, takes in a method."""
    return method.startswith(pattern[:-1]) if pattern.endswith("*") else method == pattern


def check(config: Config, names: Names, report: Report) -> None:
    """Reports everything that takes more than one key to see, but for what compiling the methods finds."""
    _gateway(config, names, report)
    for name, principal in config.principals.items():
        _principal(principal, ("principals", name), names, report)
    _hashes(config.principals, report)
    for name, provider in config.providers.items():
        _provider_tls(provider, ("providers", name, "tls"), report)
    for name, method in config.methods.items():
        _method(method, ("methods", name), config, names, report)
    _without_heartbeat(config, names, report)


def _gateway(config: Config, names: Names, report: Report) -> None:
    gateway, admin = config.gateway, config.admin
    _patterns(gateway.anonymous, ("gateway", "anonymous"), names, report)
    if gateway.listen == admin.listen and gateway.listen.port:
        report(("admin", "listen"), f"found {admin.listen}, where gateway.listen listens too; take another port")
    if not gateway.listen.loopback and not config.principals:
        message = f"{gateway.listen} can be reached from other machines and there are no principals"
        report(("gateway", "listen"), f"{message}; `homing keys new NAME` makes one", warning=True)
    if not admin.listen.loopback:
        message = f"{admin.listen} can be reached from other machines, and there is no authentication here"
        report(("admin", "listen"), message, warning=True)
    if gateway.body_max > gateway.held_bytes_max:
        report(("gateway", "held_bytes_max"), "it is below body_max, so that not even one such body could be held")
    if config.broker.listen:
        message = "workers in other processes are not part of this version: it runs everything in one process"
        report(("broker", "listen"), message, warning=True)
    _gateway_tls(gateway, report)


def _gateway_tls(gateway: Gateway, report: Report) -> None:
    tls = gateway.tls
    if bool(tls.cert) != bool(tls.key):
        missing = "key" if tls.cert else "cert"
        report(("gateway", "tls", missing), f"it is missing; {'cert' if tls.cert else 'key'} is of no use without it")
    elif tls.cert:
        _certificate(tls.cert, tls.key, ("gateway", "tls"), report)


def _provider_tls(provider: Provider, path: KeyPath, report: Report) -> None:
    tls = provider.tls
    if tls.client_cert:
        _certificate(tls.client_cert, tls.client_key, path, report)
    if tls.ca:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(tls.ca)
        except (ssl.SSLError, OSError):
            report((*path, "ca"), f"{tls.ca} holds no certificate in PEM")


def _certificate(cert: str, key: str, path: KeyPath, report: Report) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(cert, key or None, password=_no_passphrase)
    except _PassphraseAsked:
        report(path, f"the key in {key or cert} is locked with a passphrase; take one without")
    except ssl.SSLError as error:
        why = "the certificate and the key do not belong together" if error.reason == "KEY_VALUES_MISMATCH" else ""
        report(path, why or f"{cert}{f' and {key}' if key else ''} hold no certificate and private key in PEM")


class _PassphraseAsked(Exception):
    pass


def _no_passphrase() -> str:
    """OpenSSL would else ask at the terminal."""
    raise _PassphraseAsked


def _principal(principal: Principal, path: KeyPath, names: Names, report: Report) -> None:
    if not principal.methods:
        report((*path, "methods"), 'it may call nothing; name methods, or patterns such as "acme.*"', warning=True)
    _patterns(principal.methods, (*path, "methods"), names, report)


def _patterns(patterns: tuple[str, ...], path: KeyPath, names: Names, report: Report) -> None:
    for index, pattern in enumerate(patterns):
        if pattern == "*" or any(matches(pattern, method) for method in names.methods):
            continue
        report((*path, index), f'"{pattern}" takes in no method{_meant(pattern, names.methods)}', warning=True)


def _hashes(principals: dict[str, Principal], report: Report) -> None:
    owners: dict[str, str] = {}
    for name, principal in principals.items():
        for one in principal.api_key_hash:
            if (owner := owners.setdefault(one, name)) != name:
                report(("principals", name, "api_key_hash"), f"it is the same as that of {show_path(('principals', owner))}")


def _method(method: Method, path: KeyPath, config: Config, names: Names, report: Report) -> None:
    if method.provider is not None and method.provider not in names.providers:
        known = _meant(method.provider, names.providers)
        report((*path, "provider"), f'there is no provider "{method.provider}"{known}')
    longest = config.gateway.deadline.max
    if method.deadline is not None and method.deadline > longest:
        message = f"found {format_duration(method.deadline)}, which is above gateway.deadline.max, {format_duration(longest)}"
        report((*path, "deadline"), message)
    provider = config.providers.get(method.provider or "")
    attempt = provider.timeout.attempt if provider is not None else None
    deadline = config.gateway.deadline.default if method.deadline is None else method.deadline
    if attempt is not None and deadline > attempt and path[1] not in names.doubtful:
        whose = "its deadline" if method.deadline is not None else "its deadline, gateway.deadline.default,"
        message = (
            f"{whose} of {format_duration(deadline)} is longer than the provider's timeout.attempt, {format_duration(attempt)}"
        )
        report(
            (*path, "deadline"),
            f"{message}: the rest is for asking again, and that only where the effect allows it",
            warning=True,
        )


def _without_heartbeat(config: Config, names: Names, report: Report) -> None:
    """Balancers cut sockets that are silent for a minute; one warning for all methods, at the first that is long."""
    if config.gateway.heartbeat:
        return
    deadlines = {name: method.deadline or config.gateway.deadline.default for name, method in config.methods.items()}
    slow = [name for name, deadline in deadlines.items() if deadline > BALANCER_CUTS_AFTER_S and name not in names.doubtful]
    if not slow:
        return
    others = f" (and of {len(slow) - 1} more)" if len(slow) > 1 else ""
    message = f"the deadline of {slow[0]}{others} is {format_duration(deadlines[slow[0]])}, and many balancers cut silent sockets"
    report(("gateway", "heartbeat"), f'{message} after 60s; if there is one in front, set heartbeat = "20s"', warning=True)


def _meant(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), 1)
    return f'; did you mean "{close[0]}"?' if close else ""
