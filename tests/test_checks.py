import subprocess
from pathlib import Path

import pytest
import trustme

from homing import checks, settings
from homing.checks import Names
from homing.forms import Address
from homing.references import Secret
from homing.sources import KeyPath, show_path

PUBLIC, SECRET = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID", "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
HASH_A, HASH_B = ("sha256:" + "a" * 64,), ("sha256:" + "b" * 64,)


def told(config: settings.Config, providers: set[str] | None = None) -> list[str]:
    """Every problem as `path: message`, warnings with a ? before them."""
    found: list[str] = []

    def report(path: KeyPath, message: str, *, warning: bool = False) -> None:
        found.append(f"{'?' if warning else ''}{show_path(path)}: {message}")

    names = Names(frozenset(config.providers) | (providers or set()), frozenset(config.methods))
    checks.check(config, names, report)
    return found


def gateway(**keys: object) -> settings.Config:
    return settings.Config(gateway=settings.Gateway(**keys))  # type: ignore[arg-type]


def provider(**keys: object) -> settings.Provider:
    return settings.Provider(base_url="https://acme.example", **keys)  # type: ignore[arg-type]


def method(name: str, **keys: object) -> dict[str, settings.Method]:
    return {name: settings.Method(provider="acme", request="GET /", **keys)}  # type: ignore[arg-type]


PRINCIPALS = {"shop": settings.Principal(api_key_hash=HASH_A, methods=("*",))}


@pytest.mark.parametrize(
    ("pattern", "name", "takes_in"),
    [
        ("acme.*", "acme.charge", True),
        ("acme.*", "acme", False),
        ("*", "x", True),
        ("acme.charge", "acme.charge", True),
        ("a", "ab", False),
    ],
)
def test_a_pattern_is_exact_or_a_beginning(pattern: str, name: str, takes_in: bool) -> None:
    assert checks.matches(pattern, name) is takes_in


def test_nothing_is_wrong_with_the_defaults() -> None:
    assert told(settings.Config()) == []


def test_a_listener_off_loopback_without_principals_is_unwise() -> None:
    (warning,) = told(gateway(listen=Address("0.0.0.0", 8370)))
    assert warning.startswith("?gateway.listen: 0.0.0.0:8370 can be reached from other machines and there are no principals")
    assert not told(settings.Config(gateway=settings.Gateway(listen=Address("0.0.0.0", 8370)), principals=PRINCIPALS))


def test_an_admin_listener_off_loopback_is_unwise() -> None:
    assert told(settings.Config(admin=settings.Admin(listen=Address("::", 8371))))[0].startswith(
        "?admin.listen: [::]:8371 can be reached"
    )


def test_two_listeners_take_two_ports() -> None:
    both = Address("127.0.0.1", 9000)
    config = settings.Config(gateway=settings.Gateway(listen=both), admin=settings.Admin(listen=both))
    assert told(config) == ["admin.listen: found 127.0.0.1:9000, where gateway.listen listens too; take another port"]
    free = Address("127.0.0.1", 0)
    assert not told(settings.Config(gateway=settings.Gateway(listen=free), admin=settings.Admin(listen=free)))


def test_what_may_be_held_has_room_for_one_body() -> None:
    assert told(gateway(held_bytes_max=10))[0].startswith("gateway.held_bytes_max: it is below body_max")


@pytest.mark.parametrize(
    "listen", ["tcp://127.0.0.1:8372", "tcp://127.9.9.9:0", "tcp://[::1]:1", "tcp://localhost:8372", "ipc:///run/b"]
)
def test_a_broker_on_this_machine_alone_needs_no_keys(listen: str) -> None:
    assert told(settings.Config(broker=settings.Broker(listen=listen))) == []


@pytest.mark.parametrize("listen", ["tcp://0.0.0.0:8372", "tcp://[::]:8372", "tcp://10.0.0.7:8372", "tcp://broker.internal:8372"])
def test_a_broker_for_other_machines_has_keys_or_is_insecure_on_purpose(listen: str) -> None:
    (mistake,) = told(settings.Config(broker=settings.Broker(listen=listen)))
    assert mistake.startswith(f"broker.listen: {listen} can be reached from other machines")
    assert "homing keys curve" in mistake
    assert "insecure = true" in mistake
    (warning,) = told(settings.Config(broker=settings.Broker(listen=listen, insecure=True)))
    assert warning.startswith(f"?broker.insecure: {listen} can be reached from other machines")


def key_file(folder: Path) -> str:
    path = folder / "key.toml"
    path.write_text(f'public_key = "{PUBLIC}"\nsecret_key = "{SECRET}"\n')
    path.chmod(0o600)
    return str(path)


def test_a_broker_with_keys_lets_somebody_in(tmp_path: Path) -> None:
    broker = settings.Broker(listen="tcp://0.0.0.0:8372", curve=settings.ListenCurve(key=key_file(tmp_path)))
    assert told(settings.Config(broker=broker)) == [
        "?broker.curve: nobody is let in: there is no [peers.NAME] with the public key of a gateway or worker"
    ]
    assert told(settings.Config(broker=broker, peers={"far": settings.Peer(public_key=PUBLIC, call=("*",))})) == []


def test_a_key_file_is_the_owners_alone(tmp_path: Path) -> None:
    name = key_file(tmp_path)
    Path(name).chmod(0o644)
    dial, listen = settings.DialCurve(key=name, broker=PUBLIC), settings.ListenCurve(key=name)
    config = settings.Config(
        gateway=settings.Gateway(curve=dial),
        broker=settings.Broker(curve=listen),
        worker=settings.Worker(curve=dial),
        peers={"far": settings.Peer(public_key=PUBLIC, call=("*",))},
    )
    found = told(config)
    assert [problem.split(":")[0] for problem in found] == ["gateway.curve.key", "broker.curve.key", "worker.curve.key"]
    assert all("chmod 600" in problem for problem in found)


@pytest.mark.parametrize("section", ["gateway", "worker"])
def test_a_broker_on_another_machine_is_dialled_with_keys_or_insecurely_on_purpose(section: str, tmp_path: Path) -> None:
    def config(**keys: object) -> settings.Config:
        brokers = ("tcp://127.0.0.1:8372", "tcp://broker.internal:8372")
        if section == "gateway":
            return gateway(brokers=brokers, **keys)
        return settings.Config(worker=settings.Worker(brokers=brokers, **keys))  # type: ignore[arg-type]

    (mistake,) = told(config())
    assert mistake.startswith(f"{section}.brokers[1]: tcp://broker.internal:8372 is on another machine")
    assert told(config(insecure=True))[0].startswith(
        f"?{section}.insecure: what is said to tcp://broker.internal:8372 can be read"
    )
    assert told(config(curve=settings.DialCurve(key=key_file(tmp_path), broker=PUBLIC))) == []
    assert told(config(curve=settings.DialCurve(key=key_file(tmp_path)))) == [
        f"{section}.curve.broker: it is missing; key is of no use without it"
    ]
    assert f"{section}.curve.key: it is missing; broker is of no use without it" in told(
        config(curve=settings.DialCurve(broker=PUBLIC))
    )


def test_nobody_is_told_that_there_is_no_key_where_it_is_only_wrong() -> None:
    far = "tcp://broker.internal:8372"
    config = settings.Config(
        gateway=settings.Gateway(brokers=(far,), curve=settings.DialCurve(broker=PUBLIC)),
        broker=settings.Broker(listen=far),
        worker=settings.Worker(brokers=(far,)),
    )
    found: list[KeyPath] = []

    def report(path: KeyPath, message: str, *, warning: bool = False) -> None:
        found.append(path)

    checks.check(config, Names(frozenset(), frozenset(), keys_wrong=frozenset({"gateway", "broker", "worker"})), report)
    assert not found


def test_a_broker_stands_once_in_a_list() -> None:
    twice = ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1")
    assert told(gateway(brokers=twice)) == ["gateway.brokers[1]: tcp://127.0.0.1:1 stands twice in it"]


def test_majordomo_has_no_keys() -> None:
    assert told(gateway(majordomo="tcp://127.0.0.1:8373")) == []
    assert told(gateway(majordomo="tcp://0.0.0.0:8373"))[0].startswith("gateway.majordomo: tcp://0.0.0.0:8373 can be reached")
    assert told(gateway(majordomo="tcp://0.0.0.0:8373", insecure=True))[0].startswith("?gateway.majordomo: ")


def test_a_worker_serves_what_is_there() -> None:
    methods = {**method("acme.find", deadline=30.0), "reports.build": settings.Method(service="reports", deadline=30.0)}
    config = settings.Config(
        broker=settings.Broker(listen="tcp://127.0.0.1:8372"),
        worker=settings.Worker(services=("acme", "acne", "reports")),
        providers={"acme": provider()},
        methods=methods,
    )
    assert told(config) == [
        'worker.services[1]: there is no service "acne"; did you mean "acme"?',
        'worker.services[2]: service "reports" has no provider to ask; its workers are programs of their own',
    ]


def test_a_worker_takes_less_than_the_provider_would() -> None:
    config = settings.Config(
        worker=settings.Worker(brokers=("tcp://127.0.0.1:8372",)), providers={"acme": provider(in_flight_max=500)}
    )
    assert told(config) == ["?worker.credit: a worker takes 100 calls of a service at most, and in_flight_max of acme allows 500"]


@pytest.mark.parametrize("section", ["broker", "worker"])
def test_an_admin_listener_of_its_own_off_loopback_is_unwise(section: str) -> None:
    for address, warns in ((Address("0.0.0.0", 1), True), (Address("127.0.0.1", 1), False)):
        one = settings.Broker(admin=address) if section == "broker" else settings.Worker(admin=address)
        found = told(settings.Config(**{section: one}))  # type: ignore[arg-type]
        assert [problem.startswith(f"?{section}.admin: 0.0.0.0:1 can be reached") for problem in found] == [True] * warns


def test_peers_that_may_do_nothing_share_a_key_or_are_misspelt_are_told() -> None:
    config = settings.Config(
        principals=PRINCIPALS,
        providers={"acme": provider()},
        methods=method("acme.find", deadline=30.0),
        broker=settings.Broker(listen="tcp://127.0.0.1:8372"),
        peers={
            "idle": settings.Peer(public_key=PUBLIC),
            "twin": settings.Peer(public_key=PUBLIC, call=("acne",), serve=("acm*", "other"), principal="shpo"),
        },
    )
    assert told(config) == [
        '?peers.idle: it may do nothing; name services under serve or call, or patterns such as "acme*"',
        "peers.twin.public_key: it is the same as that of peers.idle",
        '?peers.twin.call[0]: "acne" takes in no service; did you mean "acme"?',
        '?peers.twin.principal: there is no principal "shpo"; did you mean "shop"?',
        "?broker.curve: the broker has no curve.key, so that it asks nobody for keys, and [peers.NAME] bind nobody",
    ]


def test_what_no_frame_can_carry_is_told() -> None:
    config = settings.Config(
        gateway=settings.Gateway(body_max=32 * 1024**2), providers={"acme": provider(response_max=17 * 1024**2)}
    )
    assert told(config) == [
        "?gateway.body_max: it is above broker.frame_bytes_max, 16MiB: between processes what is larger is refused",
        "?providers.acme.response_max: it is above broker.frame_bytes_max, 16MiB: between processes what is larger is refused",
    ]


def test_patterns_that_take_in_nothing_are_unwise() -> None:
    config = settings.Config(
        gateway=settings.Gateway(anonymous=("acme.chrage", "*")),
        principals={"shop": settings.Principal(api_key_hash=HASH_A, methods=("acme.*", "other.*"))},
        providers={"acme": provider()},
        methods=method("acme.charge", deadline=30.0),
    )
    assert told(config) == [
        '?gateway.anonymous[0]: "acme.chrage" takes in no method; did you mean "acme.charge"?',
        '?principals.shop.methods[1]: "other.*" takes in no method',
    ]


def test_a_principal_without_methods_is_unwise() -> None:
    config = settings.Config(principals={"shop": settings.Principal(api_key_hash=HASH_A)})
    assert told(config)[0].startswith("?principals.shop.methods: it may call nothing")


def test_two_principals_have_two_keys() -> None:
    keys = {
        name: settings.Principal(api_key_hash=hashes, methods=("*",)) for name, hashes in (("a", HASH_A), ("b", HASH_B + HASH_A))
    }
    assert told(settings.Config(principals=keys)) == ["principals.b.api_key_hash: it is the same as that of principals.a"]


def test_a_method_names_a_provider_that_is_there() -> None:
    methods = {"acme.charge": settings.Method(provider="acne", deadline=30.0)}
    config = settings.Config(providers={"acme": provider()}, methods=methods)
    assert told(config) == ['methods."acme.charge".provider: there is no provider "acne"; did you mean "acme"?']
    assert told(config, {"acne"}) == []
    broker = settings.Broker(listen="tcp://127.0.0.1:8372")
    assert told(settings.Config(broker=broker, methods={"echo.echo": settings.Method(service="echo", deadline=30.0)})) == []


def test_a_deadline_is_at_most_the_longest() -> None:
    config = settings.Config(providers={"acme": provider()}, methods=method("acme.slow", deadline=400.0))
    assert 'methods."acme.slow".deadline: found 400s, which is above gateway.deadline.max, 300s' in told(config)


def test_a_deadline_longer_than_an_attempt_is_unwise() -> None:
    acme = {"acme": provider(timeout=settings.ProviderTimeout(attempt=20.0))}
    (warning,) = told(settings.Config(providers=acme, methods=method("acme.charge", deadline=30.0)))
    assert warning.startswith(
        '?methods."acme.charge".deadline: its deadline of 30s is longer than the provider\'s timeout.attempt, 20s'
    )
    (warning, _) = told(settings.Config(providers=acme, methods=method("acme.charge")))
    assert "its deadline, gateway.deadline.default, of 100s is longer" in warning
    assert not told(settings.Config(providers=acme, methods=method("acme.charge", deadline=20.0)))


def test_a_key_that_is_forgotten_while_its_call_may_still_last_is_unwise() -> None:
    def said(lifetime: float, effect: str) -> list[str]:
        key = settings.Idempotency(header="Key", lifetime=lifetime)
        methods = method("acme.a", effect=effect, idempotency_key=key, deadline=10.0)
        return told(settings.Config(providers={"acme": provider()}, methods=methods))

    (only,) = said(299.0, "keyed")
    assert only.startswith(
        '?methods."acme.a".idempotency_key.lifetime: the provider forgets a key after 299s, and a call may last'
    )
    assert only.endswith("gateway.deadline.max, 300s: asked again after that, it would do it twice")
    assert said(300.0, "keyed") == said(1.0, "safe") == []


def test_a_long_deadline_without_heartbeat_is_unwise() -> None:
    methods = method("acme.slow", deadline=90.0) | method("acme.slower") | method("acme.quick", deadline=60.0)
    acme = {"acme": provider()}
    (warning,) = told(settings.Config(providers=acme, methods=methods))
    assert warning.startswith("?gateway.heartbeat: the deadline of acme.slow (and of 1 more) is 90s")
    assert not told(settings.Config(gateway=settings.Gateway(heartbeat=20.0), providers=acme, methods=methods))
    assert told(settings.Config(gateway=settings.Gateway(heartbeat=60.0), providers=acme, methods=methods)) == [warning], (
        "too late"
    )


def test_of_a_method_with_mistakes_nothing_unwise_is_said() -> None:
    found: list[str] = []
    acme = {"acme": provider(timeout=settings.ProviderTimeout(attempt=20.0))}
    config = settings.Config(providers=acme, methods=method("acme.slow"))
    names = Names(frozenset(acme), frozenset(config.methods), doubtful=frozenset(config.methods))
    checks.check(config, names, lambda path, message, warning=False: found.append(message))
    assert not found


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pems")
    authority = trustme.CA()
    for name in ("a", "b"):
        made = authority.issue_cert(f"{name}.example")
        made.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        made.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
        made.private_key_and_cert_chain_pem.write_to_path(str(folder / f"{name}.both"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    (folder / "junk.pem").write_text("junk")
    return folder


def test_tls_for_callers_takes_a_certificate_and_its_key(pems: Path) -> None:
    def tls(cert: str, key: str) -> list[str]:
        paths = [str(pems / name) if name else "" for name in (cert, key)]
        return told(gateway(tls=settings.GatewayTls(cert=paths[0], key=paths[1])))

    assert tls("a.pem", "a.key") == []
    assert tls("a.pem", "") == ["gateway.tls.key: it is missing; cert is of no use without it"]
    assert tls("", "a.key") == ["gateway.tls.cert: it is missing; key is of no use without it"]
    assert tls("a.pem", "b.key") == ["gateway.tls: the certificate and the key do not belong together"]
    assert "hold no certificate and private key in PEM" in tls("junk.pem", "a.key")[0]


def test_tls_towards_a_provider_takes_files_that_are_what_they_say(pems: Path) -> None:
    def tls(**names: str) -> list[str]:
        paths = {key: str(pems / name) for key, name in names.items()}
        made = settings.ProviderTls(**paths)  # type: ignore[arg-type]
        return told(settings.Config(providers={"acme": provider(tls=made)}))

    assert tls(ca="ca.pem", client_cert="a.pem", client_key="a.key") == []
    assert tls(client_cert="a.both") == []
    assert "providers.acme.tls.ca:" in tls(ca="junk.pem")[0]
    assert "providers.acme.tls: " in tls(client_cert="a.pem")[0]


@pytest.mark.needs("openssl")
def test_a_key_with_a_passphrase_is_told(pems: Path) -> None:
    locked = pems / "locked.key"
    subprocess.run(
        ["openssl", "pkey", "-aes256", "-passout", "pass:x", "-in", pems / "a.key", "-out", locked],
        check=True,
        capture_output=True,
    )
    config = gateway(tls=settings.GatewayTls(cert=str(pems / "a.pem"), key=str(locked)))
    assert told(config) == [f"gateway.tls: the key in {locked} is locked with a passphrase; take one without"]


@pytest.mark.parametrize("secret", ["two\nlines", "a newline more\n", "\ufeffmarked", "rings \x07"])
def test_a_secret_is_what_a_header_can_carry(secret: str) -> None:
    bearer = settings.Config(providers={"acme": provider(auth=settings.BearerAuth(token=Secret(secret)))})
    header = settings.Config(providers={"acme": provider(auth=settings.HeaderAuth(name="X-Key", value=Secret(secret)))})
    cannot = "cannot hold line breaks, control characters or what is not Latin-1"
    assert told(bearer) == [f"providers.acme.auth.token: header Authorization {cannot}"]
    assert told(header) == [f"providers.acme.auth.value: header X-Key {cannot}"]


def test_credentials_are_not_put_into_the_framing() -> None:
    config = settings.Config(providers={"acme": provider(auth=settings.HeaderAuth(name="Connection", value=Secret("k")))})
    said = "Connection belongs to the connection and is written by homing itself: leave it out"
    assert told(config) == [f"providers.acme.auth.name: {said}"]


TOKEN = settings.OAuth2Auth(token_url="https://a.example", client_id="c", client_secret=Secret("s"))


@pytest.mark.parametrize("auth", [settings.BearerAuth(token=Secret("t")), TOKEN])
def test_what_credentials_overwrite_is_told(auth: settings.Auth) -> None:
    acme = provider(auth=auth, headers={"authorization": "x", "A": "1"}, call_id_header="Authorization")
    key = settings.Idempotency(header="AUTHORIZATION")
    methods = method("acme.do", headers={"Authorization": "y"}, effect="keyed", idempotency_key=key)
    lost = "the provider's auth writes Authorization, and this is never sent"
    assert [line for line in told(settings.Config(providers={"acme": acme}, methods=methods)) if "auth writes" in line] == [
        f"?providers.acme.headers.authorization: {lost}",
        f"?providers.acme.call_id_header: {lost}",
        f'?methods."acme.do".headers.Authorization: {lost}',
        'methods."acme.do".idempotency_key.header: the provider\'s auth writes Authorization: it would never get the key',
    ]


@pytest.mark.parametrize(
    "auth",
    [None, settings.QueryAuth(name="Authorization", value=Secret("v")), settings.HeaderAuth(name="X-Key", value=Secret("v"))],
)
def test_what_credentials_leave_alone_is_not(auth: settings.Auth | None) -> None:
    acme = provider(auth=auth, headers={"Authorization": "x"})
    methods = method("acme.do", effect="keyed", idempotency_key=settings.Idempotency(header="Idempotency-Key"))
    assert not [line for line in told(settings.Config(providers={"acme": acme}, methods=methods)) if "auth writes" in line]


def test_secrets_stay_out_of_what_is_told() -> None:
    config = settings.Config(providers={"acme": provider(auth=settings.BearerAuth(token=Secret("hunter2")))})
    assert "hunter2" not in str(told(config)) + repr(config)


def test_workers_that_are_programs_of_their_own_need_a_way_in() -> None:
    echo = {"echo.say": settings.Method(service="echo")}
    (said,) = [line for line in told(settings.Config(methods=echo)) if "broker.listen" in line]
    assert said.startswith('?broker.listen: the workers of "echo" are programs of their own')
    opened = settings.Config(methods=echo, broker=settings.Broker(listen="tcp://127.0.0.1:8372"))
    elsewhere = settings.Config(methods=echo, gateway=settings.Gateway(brokers=("tcp://127.0.0.1:8372",)))
    for config in (opened, elsewhere):
        assert not [line for line in told(config) if "broker.listen" in line]
