"""The page of the protocol says what the code does: numbers, fields with bounds and defaults, kinds of junk, and an exchange in hex."""

import re
from typing import Any

import pytest

from homing.core import codec
from homing.core.messages import Message, MethodOffer
from homing.errors import Attempt, Outcome, ParamError
from tests.docs import wire
from tests.docs.pages import DOCS, blocks_of

PAGE = DOCS / "reference" / "protocol.md"
TEXT = PAGE.read_text(encoding="utf-8")
PARTS = {"Offer": MethodOffer, "Outcome": Outcome, "Attempt": Attempt, "Error": ParamError}


def section(heading: str) -> str:
    """What stands under a heading, up to the next of any level."""
    _, found, rest = TEXT.partition(f"\n{heading}\n")
    assert found, heading
    return re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def headings_of_fields() -> dict[str, list[Any]]:
    """Each heading under Fields, and whose fields stand there."""
    under = TEXT.partition("\n### Fields\n")[2].partition("\n### ")[0]
    by_name = {f"{wire.number_of(kind)} {wire.wire_name(kind)}": kind for kind in wire.KINDS} | PARTS
    return {
        heading: [by_name[name] for name in heading.split(", ")] for heading in re.findall(r"^#### (.+)$", under, re.MULTILINE)
    }


def test_the_table_of_types_is_complete() -> None:
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \| [^|]+ \| ([^|]+) \|$", section("### Types"), re.MULTILINE)
    bodies = {"Request": "the params", "Final": "the result"}
    assert rows == [
        (str(wire.number_of(kind)), wire.wire_name(kind), bodies.get(kind.__name__, "none"))
        for kind in sorted(wire.KINDS, key=wire.number_of)
    ]


def test_every_type_has_its_fields_on_the_page_once() -> None:
    named = [kind.__name__ for kinds in headings_of_fields().values() for kind in kinds]
    assert sorted(named) == sorted(kind.__name__ for kind in (*wire.KINDS, *PARTS.values()))


@pytest.mark.parametrize("heading", headings_of_fields(), ids=lambda heading: heading.replace(" ", "_"))
def test_fields_have_their_types_bounds_and_defaults(heading: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|[^|]*\|$", section(f"#### {heading}"), re.MULTILINE)
    for kind in headings_of_fields()[heading]:
        assert rows == [(name, type_, default or "required") for name, type_, default in wire.fields_of(kind)]


def test_the_tag_and_the_kinds_of_junk_are_on_the_page() -> None:
    assert f'%s"{codec.TAG.decode()}"' in TEXT
    assert re.findall(r"^\| `(\w+)` \|", section("### What cannot be read"), re.MULTILINE) == list(codec.KINDS)


def test_the_grammar_of_who_says_what_names_every_type() -> None:
    grammar = section("### Who says what").partition("```text")[2].partition("```")[0]
    names = set(re.findall(r"\b[A-Z_]{4,}\b", grammar))
    assert names == {wire.wire_name(kind) for kind in wire.KINDS}


# the exchange

(SHOWN,) = [block.text for block in blocks_of(PAGE) if "frame 1 " in block.text]


def test_the_exchange_is_what_the_codec_makes() -> None:
    """If this fails: `python -m tests.docs.wire` prints it as it belongs there."""
    assert wire.exchange() == SHOWN


@pytest.mark.parametrize("index", range(len(wire.EXCHANGE)))
def test_the_exchange_is_decoded_and_encoded_byte_for_byte(index: int) -> None:
    frames = wire.frames_in(SHOWN.strip().split("\n\n")[index])
    said: list[Message] = wire.EXCHANGE[index][1]
    assert codec.decode(frames) == said
    assert codec.encode(said) == frames
    assert codec.encode(codec.decode(frames, sealed=True)) == frames


def test_the_exchange_is_one_call() -> None:
    kinds = [type(message).__name__ for _, said in wire.EXCHANGE for message in said]
    assert kinds == ["Request", "Claim", "Grant", "Final", "Settled", "Heartbeat"]
    assert len(SHOWN.strip().split("\n\n")) == len(wire.EXCHANGE)
