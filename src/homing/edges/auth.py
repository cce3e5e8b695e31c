"""API keys to principals: 256 random bits each, only their hash in the configuration, deny by default."""

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Final

import msgspec

from homing.core.limits import Rate
from homing.errors import Outcome, failure

PREFIX: Final = "hk_"
HASH_PREFIX: Final = "sha256:"
KEY_BYTES: Final = 32


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who may call. `hashes` are `sha256:` and the hex digest of a key's text, two while a key is changed."""

    name: str
    hashes: tuple[str, ...]
    methods: tuple[str, ...] = ()
    rate: Rate | None = None
    in_flight_max: int | None = None


def new_key() -> tuple[str, str]:
    """A key and its hash."""
    key = PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).rstrip(b"=").decode()
    return key, hash_of(key)


def hash_of(key: str) -> str:
    """What the configuration holds of a key."""
    return HASH_PREFIX + hashlib.sha256(key.encode()).hexdigest()


class Principals:
    """Knows every key's hash."""

    def __init__(self, principals: Iterable[Principal]) -> None:
        self._by_digest = {bytes.fromhex(each.removeprefix(HASH_PREFIX)): one for one in principals for each in one.hashes}

    def authenticate(self, authorization: bytes | None) -> Principal | None | Outcome:
        """Who this is by the Authorization header: a principal, nobody in particular, or an outcome that says what is wrong."""
        if authorization is None:
            return None
        scheme, _, key = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return failure("unauthenticated", "Authorization has another scheme: send Authorization: Bearer hk_…")
        digest = hashlib.sha256(key.strip()).digest()
        principal = self._by_digest.get(digest)  # a digest gives nothing away by how long it is looked for
        if principal is None or not any(
            hmac.compare_digest(digest.hex(), each.removeprefix(HASH_PREFIX)) for each in principal.hashes
        ):
            return failure("unauthenticated", "Nobody has this API key.")
        return principal

    def allows(self, principal: Principal, method: str) -> bool:
        """Whether one of its patterns, exact or a beginning that ends in `*`, names the method."""
        return any(method == each or (each.endswith("*") and method.startswith(each[:-1])) for each in principal.methods)
