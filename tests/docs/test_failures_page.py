"""The page about failures: every row is shown by a test that there is, and says nothing that the table of errors does not."""

import ast
import re
from pathlib import Path

import pytest

from homing.errors import RETRY_BY_EFFECT, ROWS
from tests.docs.pages import DOCS, ROOT

PAGE = DOCS / "explanation" / "failures.md"
HEAD = "| when | told | executed | retry | how soon | shown by |"
ROWS_OF_PAGE = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and line != HEAD
]
NAMED = re.findall(r"\[(test_\w+)\]\(([^)]+)\)", PAGE.read_text(encoding="utf-8"))


def names_in(path: Path) -> set[str]:
    """The names of the tests in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


@pytest.mark.parametrize(("name", "link"), sorted(set(NAMED)), ids=lambda value: str(value).rpartition("/")[2])
def test_a_test_that_is_named_is_there(name: str, link: str) -> None:
    path = (PAGE.parent / link).resolve()
    assert path.is_relative_to(ROOT / "tests")
    assert name in names_in(path)


def test_every_table_has_the_same_head() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(HEAD) == text.count("|---|---|---|---|---|---|") == 9
    assert {len(row) for row in ROWS_OF_PAGE} == {6}


@pytest.mark.parametrize("row", ROWS_OF_PAGE, ids=lambda row: f"{row[0]}, {row[1]}"[:80])
def test_a_row_says_what_the_table_of_errors_allows(row: list[str]) -> None:
    _, told, executed, retry, soon, shown = row
    assert soon
    assert "](../../" in shown
    reasons = re.findall(r"`([a-z]+_[a-z_]+|cancelled|expired|draining)`", told)
    reasons = [reason for reason in reasons if reason in ROWS]
    if not executed:
        assert not retry
        return
    assert executed in ("no", "unknown")
    for reason in reasons:
        assert ROWS[reason].executed in (executed, "unknown")
    if executed == "unknown":
        assert retry in ("by effect", *RETRY_BY_EFFECT.values())
    elif reasons and ROWS[reasons[0]].retry:
        assert retry == ROWS[reasons[0]].retry
    else:
        assert retry == "safe"
