"""Key files for CURVE: what is read, and what is refused in words that help."""

from pathlib import Path

import pytest

from homing import curve
from homing.curve import CurveKeys

# The pair of ZeroMQ's own documentation of zmq_curve.
PUBLIC = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID"
SECRET = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"


def key_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "key.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_file_of_the_owner_alone_is_read(tmp_path: Path) -> None:
    path = key_file(tmp_path, f'public_key = "{PUBLIC}"\nsecret_key = "{SECRET}"\n')
    keys = curve.read_keys(path)
    assert keys == CurveKeys(PUBLIC, SECRET)
    assert SECRET not in repr(keys)
    assert PUBLIC in repr(keys)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o606, 0o610], ids=oct)
def test_a_file_that_others_may_read_is_refused(mode: int, tmp_path: Path) -> None:
    path = key_file(tmp_path, f'public_key = "{PUBLIC}"\nsecret_key = "{SECRET}"\n', mode)
    with pytest.raises(ValueError, match=f"mode {mode:04o}.*chmod 600"):
        curve.read_keys(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be read: no such file"):
        curve.read_keys(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x = [",
        f'public_key = "{PUBLIC}"\n',
        f'public_key = "{PUBLIC}"\nsecret_key = 7\n',
        f'public_key = "{PUBLIC}"\nsecret_key = "{SECRET[:-1]}"\n',
        f'public_key = "{PUBLIC}"\nsecret_key = "{SECRET}"\n' + "#" * 5000,
    ],
    ids=["empty", "no-toml", "half", "number", "short", "long"],
)
def test_what_is_no_key_file_is_refused_and_never_quoted(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no key file") as refused:
        curve.read_keys(key_file(tmp_path, text))
    assert SECRET[:-1] not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [(PUBLIC, True), (PUBLIC + "0", False), (PUBLIC[:-1] + "~", False), ("#" * 40, False), ("0" * 40, True)],
    ids=["key", "long", "letter", "too-large", "zeros"],
)
def test_a_key_is_32_bytes_in_z85(text: str, is_one: bool) -> None:
    assert curve.is_key(text) is is_one
