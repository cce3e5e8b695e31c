"""homing.core.specs: the keys of the TOML file, as they are written there."""

import msgspec
import pytest

from homing.core.specs import AnswerRow, CallInfo, MappingError, MethodSpec, Problem


def test_a_row_is_written_with_is() -> None:
    row = msgspec.convert({"when": "status == `404`", "is": "ok"}, AnswerRow)
    assert row.is_ == "ok"
    assert (row.executed, row.retry, row.message) == (None, None, None)


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="Invalid enum value 'fine'"):
        msgspec.convert({"when": "status", "is": "fine"}, AnswerRow)


def test_what_is_dangerous_is_the_default() -> None:
    spec = MethodSpec(name="acme.charge")
    assert (spec.effect, spec.notifications, spec.encode, spec.decode) == ("once", False, "json", "json")
    assert CallInfo(id="c").attempt == 1


def test_a_problem_stops_and_a_warning_does_not() -> None:
    assert not Problem("methods.a", "wrong").warning


def test_a_mapping_error_says_where() -> None:
    error = MappingError("must not be empty", "/account")
    assert (error.message, error.path, str(error)) == ("must not be empty", "/account", "must not be empty")
