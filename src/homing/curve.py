"""Key files for CURVE, the cipher between processes: what `homing keys curve NAME` writes, read back. Keys are Z85 (ZeroMQ RFC 32).

A file is TOML with `public_key` and `secret_key`, and is refused if anybody but its owner may read it.
"""

import os
import re
import stat
import tomllib

import msgspec

KEY_LENGTH = 40  # characters: 32 bytes in Z85
FILE_BYTES_MAX = 4096

_Z85 = re.compile(rf"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{{}}@%$#]{{{KEY_LENGTH}}}", re.ASCII)


class CurveKeys(msgspec.Struct, frozen=True):
    """A pair of keys in Z85. The secret one is in no repr."""

    public_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"CurveKeys(public_key={self.public_key!r}, secret_key='***')"


def is_key(text: str) -> bool:
    """Whether this is a key in Z85: 40 characters of its alphabet, and no more than 32 bytes in them."""
    if not _Z85.fullmatch(text):
        return False
    groups = (text[start : start + 5] for start in range(0, KEY_LENGTH, 5))
    return all(_number(group) < 1 << 32 for group in groups)


def read_keys(path: str | os.PathLike[str]) -> CurveKeys:
    """The keys in a file. Raises ValueError, which says for people what is wrong with it and what to do."""
    name = os.fspath(path)
    try:
        with open(name, "rb") as opened:  # noqa: PTH123 - the mode must be that of the very file that is read
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            content = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if mode & 0o077:
        raise ValueError(f"{name} can be read by others than its owner (mode {mode:04o}); say `chmod 600 {name}`")
    try:
        table = tomllib.loads(content.decode()) if len(content) <= FILE_BYTES_MAX else {}
    except ValueError:
        table = {}
    public, secret = table.get("public_key"), table.get("secret_key")
    if not (isinstance(public, str) and isinstance(secret, str) and is_key(public) and is_key(secret)):
        raise ValueError(f"{name} is no key file: it has no public_key and secret_key of {KEY_LENGTH} characters each")
    return CurveKeys(public, secret)


_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def _number(group: str) -> int:
    number = 0
    for character in group:
        number = number * 85 + _DIGITS.index(character)
    return number
