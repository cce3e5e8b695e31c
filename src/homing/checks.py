"""What is wrong or unwise about a configuration whose every value is right by itself."""

import difflib
import ssl
from collections.abc import Iterable
from typing import Protocol

import msgspec
from msgspec.structs import replace

from homing import curve
from homing.core.rendering import check_header_name, header_text
from homing.core.specs import MappingError
from homing.forms import Address, is_local
from homing.settings import (
    BearerAuth,
    Broker,
    Config,
    DialCurve,
    Gateway,
    HeaderAuth,
    Method,
    Peer,
    Principal,
    Provider,
    QueryAuth,
)
from homing.sources import KeyPath, show_path
from homing.units import format_duration, format_size

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
    keys_wrong: frozenset[str] = frozenset()  # sections whose `curve` has mistakes: nobody is told that there is none


def matches(pattern: str, method: str) -> bool:
    """Whether a method pattern, exact or a beginning and `*`, takes in a method."""
    return method.startswith(pattern[:-1]) if pattern.endswith("*") else method == pattern


def check(config: Config, names: Names, report: Report) -> None:
    """Reports everything that takes more than one key to see, but for what compiling the methods finds."""
    _gateway(config, names, report)
    _broker(config, names, report)
    _worker(config, names, report)
    _peers(config, report)
    _frames(config, report)
    for name, principal in config.principals.items():
        _principal(principal, ("principals", name), names, report)
    _hashes(config.principals, report)
    for name, provider in config.providers.items():
        _provider_tls(provider, ("providers", name, "tls"), report)
        _credentials(provider, ("providers", name, "auth"), report)
        _overwritten(provider.headers, ("providers", name, "headers"), provider, report)
        _overwritten((provider.call_id_header,), ("providers", name, "call_id_header"), provider, report)
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
    if gateway.majordomo and not is_local(gateway.majordomo):
        message = f"{gateway.majordomo} can be reached from other machines, and clients of Majordomo bring no keys"
        advice = "" if gateway.insecure else "; keep it on this machine, or say insecure = true"
        report(("gateway", "majordomo"), message + advice, warning=gateway.insecure)
    _dialling("gateway", gateway.brokers, gateway.curve, gateway.insecure, names, report)
    _gateway_tls(gateway, report)


def plaintext(endpoint: str, keys: DialCurve, insecure: bool) -> str | None:
    """Why this broker may not be dialled, None if it may: off this machine everything is said under CURVE, or insecurely on purpose."""
    if keys.key or insecure or is_local(endpoint):
        return None
    advice = "`homing keys curve NAME` makes keys for curve.key; or say insecure = true"
    return f"{endpoint} is on another machine, and nothing would be encrypted; {advice}"


def _dialling(section: str, brokers: tuple[str, ...], keys: DialCurve, insecure: bool, names: Names, report: Report) -> None:
    for index, broker in enumerate(brokers):
        if broker in brokers[:index]:
            report((section, "brokers", index), f"{broker} stands twice in it")
        elif (why := plaintext(broker, keys, insecure)) is not None and section not in names.keys_wrong:
            report((section, "brokers", index), why)
    far = [broker for broker in brokers if not is_local(broker)]
    if insecure and far and not keys.key:
        report((section, "insecure"), f"what is said to {far[0]} can be read and forged by whoever is on the way", warning=True)
    if bool(keys.key) != bool(keys.broker) and section not in names.keys_wrong:
        missing = "broker" if keys.key else "key"
        report((section, "curve", missing), f"it is missing; {'key' if keys.key else 'broker'} is of no use without it")
    _key_file(keys.key, (section, "curve", "key"), report)


def _key_file(name: str, path: KeyPath, report: Report) -> None:
    if name:
        try:
            curve.read_keys(name)
        except ValueError as error:
            report(path, str(error))


_REACHED = "can be reached from other machines, and whoever reaches it can call, serve and listen in"


def exposed(broker: Broker) -> str | None:
    """Why it may not listen there, None if it may: as for dialling."""
    if not broker.listen or broker.curve.key or broker.insecure or is_local(broker.listen):
        return None
    advice = "`homing keys curve NAME` makes keys for curve.key; or say insecure = true"
    return f"{broker.listen} {_REACHED}; {advice}"


def _broker(config: Config, names: Names, report: Report) -> None:
    broker = config.broker
    _key_file(broker.curve.key, ("broker", "curve", "key"), report)
    if "broker" in names.keys_wrong:
        pass
    elif (why := exposed(broker)) is not None:
        report(("broker", "listen"), why)
    elif broker.insecure and exposed(replace(broker, insecure=False)) is not None:
        report(("broker", "insecure"), f"{broker.listen} {_REACHED}", warning=True)
    elsewhere = sorted({method.service for method in config.methods.values() if method.provider is None and method.service})
    if elsewhere and not broker.listen and not config.gateway.brokers:
        message = f'the workers of "{elsewhere[0]}" are programs of their own, and there is no socket where they could come in'
        report(("broker", "listen"), f'{message}; listen = "tcp://127.0.0.1:8372" is one', warning=True)
    if broker.curve.key and not config.peers:
        message = "nobody is let in: there is no [peers.NAME] with the public key of a gateway or worker"
        report(("broker", "curve"), message, warning=True)
    _admin_of_its_own("broker", broker.admin, report)


def _admin_of_its_own(section: str, admin: Address | None, report: Report) -> None:
    if admin is not None and not admin.loopback:
        message = f"{admin} can be reached from other machines, and there is no authentication here"
        report((section, "admin"), message, warning=True)


def _worker(config: Config, names: Names, report: Report) -> None:
    worker = config.worker
    _dialling("worker", worker.brokers, worker.curve, worker.insecure, names, report)
    _admin_of_its_own("worker", worker.admin, report)
    asked = _services(config) | names.providers
    elsewhere = {method.service for method in config.methods.values() if method.provider is None and method.service} - asked
    for index, service in enumerate(worker.services):
        path: KeyPath = ("worker", "services", index)
        if service in elsewhere:
            report(path, f'service "{service}" has no provider to ask; its workers are programs of their own')
        elif service not in asked and names.methods <= config.methods.keys():
            report(path, f'there is no service "{service}"{_meant(service, asked)}')
    if not worker.brokers:
        return
    for name, provider in config.providers.items():
        if provider.in_flight_max > worker.credit:
            message = f"a worker takes {worker.credit} calls of a service at most, and in_flight_max of {name} allows"
            report(("worker", "credit"), f"{message} {provider.in_flight_max}", warning=True)


def _services(config: Config) -> set[str]:
    """What a worker with these providers can serve."""
    return {method.service or method.provider for method in config.methods.values() if method.provider is not None}


def _peers(config: Config, report: Report) -> None:
    owners: dict[str, str] = {}
    services = _services(config) | {method.service for method in config.methods.values() if method.service}
    for name, peer in config.peers.items():
        path: KeyPath = ("peers", name)
        if (owner := owners.setdefault(peer.public_key, name)) != name:
            report((*path, "public_key"), f"it is the same as that of {show_path(('peers', owner))}")
        if not peer.serve and not peer.call:
            report(path, 'it may do nothing; name services under serve or call, or patterns such as "acme*"', warning=True)
        _peer_names(peer, path, services, config, report)
    if config.peers and config.broker.listen and not config.broker.curve.key:
        message = "the broker has no curve.key, so that it asks nobody for keys, and [peers.NAME] bind nobody"
        report(("broker", "curve"), message, warning=True)


def _peer_names(peer: Peer, path: KeyPath, services: set[str], config: Config, report: Report) -> None:
    """A broker need not know what is served and by whose leave: only what looks like a slip is told."""
    for key, patterns in (("serve", peer.serve), ("call", peer.call)):
        for index, pattern in enumerate(patterns):
            meant = _meant(pattern, services)
            if meant and not any(matches(pattern, service) for service in services):
                report((*path, key, index), f'"{pattern}" takes in no service{meant}', warning=True)
    meant = _meant(peer.principal, config.principals)
    if meant and peer.principal not in config.principals:
        report((*path, "principal"), f'there is no principal "{peer.principal}"{meant}', warning=True)


def _frames(config: Config, report: Report) -> None:
    """What is too large for a frame reaches nobody beyond this process."""
    largest = config.broker.frame_bytes_max
    most = f"broker.frame_bytes_max, {format_size(largest)}: between processes what is larger is refused"
    if config.gateway.body_max > largest:
        report(("gateway", "body_max"), f"it is above {most}", warning=True)
    for name, provider in config.providers.items():
        if provider.response_max > largest:
            report(("providers", name, "response_max"), f"it is above {most}", warning=True)


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


def _credentials(provider: Provider, path: KeyPath, report: Report) -> None:
    """Whether a header can carry them: a secret of two lines, say."""
    auth = provider.auth
    if isinstance(auth, HeaderAuth):
        name, key, secret = str(auth.name), "value", auth.value
        if (problem := check_header_name(name)) is not None:
            report((*path, "name"), problem)
    elif isinstance(auth, BearerAuth):
        name, key, secret = "Authorization", "token", auth.token
    else:
        return
    try:
        header_text(secret.reveal(), name)
    except MappingError as error:
        report((*path, key), error.message)


def _auth_header(provider: Provider) -> str:
    """The header that is written last, whatever else there is of its name; "" for none."""
    if isinstance(provider.auth, HeaderAuth):
        return str(provider.auth.name)
    return "" if provider.auth is None or isinstance(provider.auth, QueryAuth) else "Authorization"


def _overwritten(headers: Iterable[str], path: KeyPath, provider: Provider, report: Report) -> None:
    written = _auth_header(provider)
    for name in headers:
        if name and name.lower() == written.lower():
            at = (*path, name) if path[-1] == "headers" else path
            report(at, f"the provider's auth writes {written}, and this is never sent", warning=True)


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
    lifetime = method.idempotency_key.lifetime if method.idempotency_key is not None and method.effect == "keyed" else longest
    if lifetime < longest and path[1] not in names.doubtful:
        message = (
            f"the provider forgets a key after {format_duration(lifetime)}, and a call may last as long as gateway.deadline.max"
        )
        told = f"{message}, {format_duration(longest)}: asked again after that, it would do it twice"
        report((*path, "idempotency_key", "lifetime"), told, warning=True)
    provider = config.providers.get(method.provider or "")
    if provider is not None:
        _overwritten(method.headers, (*path, "headers"), provider, report)
        key = method.idempotency_key
        if key is not None and method.effect != "safe" and key.header and key.header.lower() == _auth_header(provider).lower():
            message = f"the provider's auth writes {_auth_header(provider)}: it would never get the key"
            report((*path, "idempotency_key", "header"), message)
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
    if 0 < config.gateway.heartbeat < BALANCER_CUTS_AFTER_S:
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
