"""API keys: who calls, and what they may call. Only hashes are kept; nothing here repeats a key in a message."""

import hmac
import re
import secrets
from collections.abc import Iterable
from hashlib import sha256
from typing import Final

import msgspec

from homing.core.limits import Rate
from homing.errors import Outcome, failure

PREFIX: Final = "hk_"
KEY_BYTES: Final = 32  # of randomness: with so much of it a bare hash needs neither salt nor stretching
KEY_LENGTH: Final = len(PREFIX) + 43  # base64url of them, unpadded
HASH_PREFIX: Final = "sha256:"

_hash_form = re.compile(HASH_PREFIX + "[0-9A-Fa-f]{64}")
_EXPECTED: Final = "send Authorization: Bearer hk_…"


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may call.

    `hashes` as `hash_key` gives them, two while a key is rotated; `methods` are patterns: exact names, or beginnings that end in `*`.
    None is no limit.
    """

    name: str
    hashes: tuple[str, ...]
    methods: tuple[str, ...] = ()
    rate: Rate | None = None
    in_flight_max: int | None = None


def new_key() -> tuple[str, str]:
    """A new API key and its hash. The key is to be shown once and kept by its owner alone."""
    key = PREFIX + secrets.token_urlsafe(KEY_BYTES)
    return key, hash_key(key)


def hash_key(key: str) -> str:
    """What the configuration keeps of a key: `sha256:` and the hexadecimal digest of its whole text."""
    return HASH_PREFIX + sha256(key.encode()).hexdigest()


class Patterns:
    """Method patterns, compiled. Without any nothing matches. Raises ValueError for a `*` that does not stand at the end."""

    __slots__ = ("_beginnings", "_names")

    def __init__(self, patterns: Iterable[str]) -> None:
        names, beginnings = set[str](), list[str]()
        for pattern in patterns:
            if "*" in pattern[:-1]:
                raise ValueError(f"{pattern!r}: a * may only stand at the end")
            if pattern.endswith("*"):
                beginnings.append(pattern[:-1])
            else:
                names.add(pattern)
        self._names = frozenset(names)
        self._beginnings = tuple(beginnings)

    def match(self, method: str) -> bool:
        """Whether one of them names the method."""
        return method in self._names or method.startswith(self._beginnings)


class Principals:
    """All who may call. Raises ValueError if two have one name or one key, or if a hash or a pattern is malformed."""

    __slots__ = ("_by_digest", "_by_name", "_patterns")

    def __init__(self, principals: Iterable[Principal]) -> None:
        self._by_digest: dict[bytes, tuple[bytes, Principal]] = {}
        self._by_name: dict[str, Principal] = {}
        self._patterns: dict[str, Patterns] = {}
        for principal in principals:
            if principal.name in self._patterns:
                raise ValueError(f"two principals are named {principal.name!r}")
            self._by_name[principal.name] = principal
            self._patterns[principal.name] = Patterns(principal.methods)
            for text in principal.hashes:
                digest = _digest(text)
                if digest in self._by_digest:
                    raise ValueError(f"the API key of principal {principal.name!r} is another one's too, or listed twice")
                self._by_digest[digest] = digest, principal

    def authenticate(self, authorization: bytes | None) -> Principal | Outcome | None:
        """Who sent this `Authorization` field; None for nobody in particular, who sent none.

        An Outcome, `unauthenticated`, is for everything else: who shows a key that is wrong is not anonymous.
        """
        if authorization is None:
            return None
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer":  # RFC 9110 section 11.1: whatever its case
            return failure("unauthenticated", f"The Authorization field is not of the scheme Bearer: {_EXPECTED}")
        key = key.strip(b" \t")
        if len(key) != KEY_LENGTH or not key.startswith(PREFIX.encode()):
            return failure("unauthenticated", f"What follows Bearer has not the form of an API key: {_EXPECTED}")
        # The time this takes may tell something of the digest, and nothing of the key: who knew how to steer a digest
        # towards another would have broken SHA-256.
        digest = sha256(key).digest()
        found = self._by_digest.get(digest)
        if found is None or not hmac.compare_digest(found[0], digest):
            return failure("unauthenticated", "This API key is not known here: it is mistyped, or no longer in use.")
        return found[1]

    def named(self, name: str) -> Principal | None:
        """Who has this name, for callers who have been recognised by something else than an API key."""
        return self._by_name.get(name)

    def allows(self, principal: Principal, method: str) -> bool:
        """Whether one of the principal's patterns names the method. What nobody allowed is denied."""
        patterns = self._patterns.get(principal.name)
        return patterns is not None and patterns.match(method)


def _digest(text: str) -> bytes:
    if _hash_form.fullmatch(text) is None:
        raise ValueError("a hash is sha256: and 64 hexadecimal digits")
    return bytes.fromhex(text.removeprefix(HASH_PREFIX))
