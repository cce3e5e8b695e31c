"""API keys: the right one lets in, nothing else does, and no message repeats one."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.core.limits import Rate
from homing.edges.auth import Patterns, Principal, Principals, hash_key, new_key
from homing.errors import Outcome

# The same in every process that collects these tests: their names hold the keys.
OLD, NEW, OTHER, STRANGER = ("hk_" + letter * 42 + "A" for letter in "onxs")
OLD_HASH, NEW_HASH, OTHER_HASH = hash_key(OLD), hash_key(NEW), hash_key(OTHER)
WEBSHOP = Principal(
    name="webshop",
    hashes=(OLD_HASH, NEW_HASH),
    methods=("acme.*", "demo.echo"),
    rate=Rate(limit=100, per_s=1.0, burst=200),
    in_flight_max=200,
)
REPORTS = Principal(name="reports", hashes=("sha256:" + OTHER_HASH[7:].upper(),), methods=("*",))
NOBODY = Principal(name="nobody", hashes=())
PRINCIPALS = Principals([WEBSHOP, REPORTS, NOBODY])


def refusal(authorization: bytes) -> str:
    outcome = PRINCIPALS.authenticate(authorization)
    assert isinstance(outcome, Outcome)
    assert (outcome.reason, outcome.executed) == ("unauthenticated", "no")
    return outcome.message


# Keys


def test_a_new_key_is_random_and_its_hash_is_that_of_the_whole_text() -> None:
    keys = {new_key() for _ in range(50)}
    assert len(keys) == 50
    for key, digest in keys:
        assert re.fullmatch(r"hk_[A-Za-z0-9_-]{43}", key)
        assert digest == "sha256:" + hashlib.sha256(key.encode()).hexdigest() == hash_key(key)


# Authenticate


@pytest.mark.parametrize(("key", "principal"), [(OLD, WEBSHOP), (NEW, WEBSHOP), (OTHER, REPORTS)])
@pytest.mark.parametrize("before", ["Bearer ", "bearer ", "BEARER   ", "bEaReR \t"])
def test_a_key_says_who_calls(key: str, principal: Principal, before: str) -> None:
    assert PRINCIPALS.authenticate(f"{before}{key}".encode()) is principal
    assert PRINCIPALS.authenticate(f"{before}{key} ".encode()) is principal


def test_without_a_key_it_is_nobody_in_particular() -> None:
    assert PRINCIPALS.authenticate(None) is None


def test_a_wrong_key_is_not_anonymous() -> None:
    assert "not known here" in refusal(f"Bearer {STRANGER}".encode())
    assert "not known here" in refusal(f"Bearer {OLD[:-1]}{'A' if OLD[-1] != 'A' else 'B'}".encode())
    assert isinstance(Principals([]).authenticate(f"Bearer {OLD}".encode()), Outcome)


@pytest.mark.parametrize(
    "authorization",
    [
        b"",
        b" ",
        b"Bearer",
        b"Bearer ",
        OLD.encode(),
        f"Basic {OLD}".encode(),
        f"Token {OLD}".encode(),
        f"Bearer\t{OLD}".encode(),
        f"Bearer{OLD}".encode(),
        f" Bearer {OLD}".encode(),
        f'Bearer "{OLD}"'.encode(),
        f"Bearer {OLD}, Bearer {OLD}".encode(),
        f"Bearer {OLD} {OLD}".encode(),
        f"Bearer {OLD[3:]}".encode(),
        f"Bearer {OLD}=".encode(),
        f"Bearer {OLD[:-1]}".encode(),
        f"Bearer {OLD_HASH}".encode(),
        f"Bearer xx_{OLD[3:]}".encode(),
        b"Bearer \xff\xfe",
        b"Bearer hk_" + b"\xff" * 43,
        b"Bearer hk_" + b"a" * 100_000,
    ],
)
def test_what_is_malformed_is_refused_with_the_way_to_do_it(authorization: bytes) -> None:
    message = refusal(authorization)
    assert "send Authorization: Bearer hk_…" in message or "not known here" in message


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda rest: b"Bearer hk_" + rest))
def test_no_message_repeats_what_was_sent(authorization: bytes) -> None:
    message = refusal(authorization)
    secret = authorization.removeprefix(b"Bearer hk_").decode("latin-1").strip()
    assert len(secret) < 12 or secret not in message


def test_the_hash_of_a_key_is_no_key() -> None:
    assert refusal(f"Bearer hk_{OLD_HASH[7:50]}".encode())


# Allows


@pytest.mark.parametrize(
    ("principal", "method", "allowed"),
    [
        (WEBSHOP, "acme.charge", True),
        (WEBSHOP, "acme.", True),
        (WEBSHOP, "acme", False),
        (WEBSHOP, "acmex.charge", False),
        (WEBSHOP, "Acme.charge", False),
        (WEBSHOP, "demo.echo", True),
        (WEBSHOP, "demo.echo2", False),
        (WEBSHOP, "demo", False),
        (WEBSHOP, "", False),
        (REPORTS, "anything", True),
        (REPORTS, "", True),
        (NOBODY, "demo.echo", False),
        (NOBODY, "", False),
        (Principal(name="stranger", hashes=(), methods=("*",)), "demo.echo", False),
    ],
)
def test_what_nobody_allowed_is_denied(principal: Principal, method: str, allowed: bool) -> None:
    assert PRINCIPALS.allows(principal, method) is allowed


names = st.text("ab.", max_size=4)


@given(st.lists(st.tuples(names, st.booleans()), max_size=4), names)
def test_patterns_are_names_and_beginnings(patterns: list[tuple[str, bool]], method: str) -> None:
    expected = any(method.startswith(text) if open_ended else method == text for text, open_ended in patterns)
    assert Patterns(text + "*" * open_ended for text, open_ended in patterns).match(method) is expected


# Mistakes in a configuration


@pytest.mark.parametrize("pattern", ["a*b", "*a", "**", "*.charge"])
def test_a_star_stands_at_the_end(pattern: str) -> None:
    with pytest.raises(ValueError, match="at the end"):
        Principals([Principal(name="a", hashes=(OLD_HASH,), methods=(pattern,))])


@pytest.mark.parametrize(
    "text",
    [
        "",
        OLD,
        OLD_HASH[7:],
        "sha256:",
        OLD_HASH[:-1],
        OLD_HASH + "0",
        "sha512:" + OLD_HASH[7:],
        "sha256:" + "g" * 64,
        "sha256:" + " a" * 32,
    ],
)
def test_a_hash_is_one(text: str) -> None:
    with pytest.raises(ValueError, match="hexadecimal") as caught:
        Principals([Principal(name="a", hashes=(text,))])
    assert len(text) < 10 or text not in str(caught.value)


def test_a_key_has_one_owner_and_an_owner_one_table() -> None:
    with pytest.raises(ValueError, match="'b' is another one's"):
        Principals([Principal(name="a", hashes=(OLD_HASH,)), Principal(name="b", hashes=(OLD_HASH,))])
    with pytest.raises(ValueError, match="listed twice"):
        Principals([Principal(name="a", hashes=(OLD_HASH, OLD_HASH))])
    with pytest.raises(ValueError, match="two principals are named 'a'"):
        Principals([Principal(name="a", hashes=()), Principal(name="a", hashes=())])


def test_who_was_recognised_elsewhere_is_found_by_name() -> None:
    assert PRINCIPALS.named("webshop") is WEBSHOP
    assert PRINCIPALS.named("") is None
