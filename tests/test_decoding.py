from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import pytest
from msgspec import Meta, Struct, field

from homing import forms
from homing.decoding import Decoder, Wrong, expected, fields_of, is_section, kind_of, show
from homing.forms import Duration, Size
from homing.references import Referred, Secret
from homing.sources import KeyPath, Source


class Inner(Struct, frozen=True, kw_only=True):
    width: Annotated[int, Meta(ge=1, le=9)]
    depth: Annotated[Duration, Meta(gt=0)] = 1.0


class Cat(Struct, frozen=True, kw_only=True, tag_field="type", tag="cat"):
    lives: int = 9


class Dog(Struct, frozen=True, kw_only=True, tag_field="type", tag="dog"):
    barks: bool


class Top(Struct, frozen=True, kw_only=True):
    name: Annotated[str, Meta(description="What it is called.")]
    is_: Literal["warm", "cold"] = field(name="is", default="warm")
    count: Annotated[int | None, Meta(ge=1)] = None
    ratio: Annotated[float, Meta(gt=0, le=1)] = 0.5
    size: Annotated[Size, Meta(ge=1024)] = 2048
    on: bool = False
    token: Annotated[Secret | None, forms.SECRET] = None
    words: tuple[str, ...] = ()
    inner: Inner | None = None
    rows: tuple[Inner, ...] = ()
    pet: Cat | Dog | None = None
    headers: dict[Annotated[str, forms.HEADER_NAME], object] = {}
    free: object = None
    schema: Annotated[dict[str, object] | None, forms.SCHEMA] = None

    def __post_init__(self) -> None:
        if self.name == "unlucky":
            raise ValueError("this name is bad luck")


class Reading:
    def __init__(self, folder: Path, text: str, environ: Mapping[str, str], *, partial: bool = False) -> None:
        path = folder / "top.toml"
        path.write_text(text, encoding="utf-8")
        self.source = Source(path, "top.toml")
        self.decoder = Decoder(environ, self.origin, {"listen": "[gateway]"})
        self.value = self.decoder.section(Top, self.source.table, (), partial=partial)
        self.problems = [str(problem).removeprefix("top.toml: ") for problem in self.decoder.problems]

    def origin(self, path: KeyPath) -> tuple[Source, KeyPath]:
        return self.source, path


def test_a_right_table_becomes_a_struct(tmp_path: Path) -> None:
    text = """\
name = "env:NAME"
is = "cold"
count = 3
ratio = 1
size = "4KiB"
on = true
token = "env:TOKEN"
words = ["a", "file:word"]
inner = { width = 2, depth = "3s" }
rows = [{ width = 1 }]
pet = { type = "dog", barks = true }
headers = { X-A = "b", X-B = 2 }
free = { a = ["env:NAME", { b = 1.5 }], include = ["x"] }
schema = { const = "env:NAME" }
"""
    (tmp_path / "word").write_text("from a file\n")
    reading = Reading(tmp_path, text, {"NAME": "n", "TOKEN": "t0ken"})
    assert reading.problems == []
    assert reading.value == Top(
        name="n",
        is_="cold",
        count=3,
        ratio=1.0,
        size=4096,
        on=True,
        token=Secret("t0ken"),
        words=("a", "from a file"),
        inner=Inner(width=2, depth=3.0),
        rows=(Inner(width=1),),
        pet=Dog(barks=True),
        headers={"X-A": "b", "X-B": 2},
        free={"a": ["n", {"b": 1.5}], "include": ["x"]},
        schema={"const": "env:NAME"},
    )
    assert reading.decoder.values_referred == {"n", "t0ken", "from a file"}
    assert "t0ken" not in repr(reading.value)
    assert "'n'" not in repr(reading.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "name: it is missing; expected a string"),
        ("name = 5", "name: found 5, expected a string"),
        ('name = "unlucky"', "this name is bad luck"),
        ('nam = "x"\nname = "x"', 'nam: this key is unknown; did you mean "name"?'),
        ('Name = "x"\nname = "x"', 'Name: this key is unknown; did you mean "name"?'),
        ('name = "x"\nlisten = 1', "listen: this key is unknown here; it belongs into [gateway]"),
        ('name = "x"\nzzz = 1', "zzz: this key is unknown; the keys here are name, is, count,"),
        ('name = "x"\nis = "Cold"', 'is: found "Cold", expected "warm" or "cold"; did you mean "cold"?'),
        ('name = "x"\nis = 1', 'is: found 1, expected "warm" or "cold"'),
        ('name = "x"\ncount = 0', "count: found 0, expected a whole number from 1 up"),
        ('name = "x"\ncount = "3"', 'count: found "3", expected a whole number from 1 up; write 3 without the quotes'),
        ('name = "x"\ncount = "many"', 'count: found "many", expected a whole number from 1 up'),
        ('name = "x"\ncount = true', "count: found true, expected a whole number"),
        ('name = "x"\nratio = 2', "ratio: found 2, expected a number above 0 up to 1"),
        ('name = "x"\nratio = nan', "ratio: found nan, expected a number"),
        ('name = "x"\nsize = 5', 'size: found 5, expected a size such as "1MiB" from 1KiB up'),
        ('name = "x"\nsize = "5x"', 'size: found "5x", expected a size such as "1MiB": "x" is no unit'),
        ('name = "x"\non = "true"', 'on: found "true", expected true or false; write true without the quotes'),
        ('name = "x"\non = 1', "on: found 1, expected true or false"),
        ('name = "x"\ntoken = 5', 'token: found a number, expected a string, best as a reference such as "env:ACME_TOKEN"'),
        ('name = "x"\ntoken = "env:NOPE"', "token: the environment variable NOPE is not set"),
        ('name = "x"\nwords = "a"', 'words: found "a", expected a list, each of it a string; write ["a"]'),
        ('name = "x"\nwords = [1, "a", 2]', "words[0]: found 1, expected a string"),
        ('name = "x"\ninner = 1', "inner: found 1, expected a table; its keys are width, depth"),
        ('name = "x"\ninner = {}', "inner.width: it is missing; expected a whole number from 1 to 9"),
        ('name = "x"\ninner = { width = 10 }', "inner.width: found 10, expected a whole number from 1 to 9"),
        (
            'name = "x"\ninner = { width = 1, depth = "0s" }',
            'inner.depth: found "0s", expected a duration such as "60s" above 0s',
        ),
        ('name = "x"\nrows = { width = 1 }', "rows: found a table, expected a list of tables; write [[rows]] over it"),
        ('name = "x"\nrows = 1', "rows: found 1, expected a list of tables"),
        ('name = "x"\nrows = [{ width = 1 }, { width = 0 }]', "rows[1].width: found 0"),
        ('name = "x"\npet = "dog"', 'pet: found a string, expected a table such as { type = "cat", … }'),
        ('name = "x"\npet = {}', 'pet.type: it is missing; expected "cat" or "dog"'),
        ('name = "x"\npet = { type = "dig" }', 'pet.type: found "dig", expected "cat" or "dog"; did you mean "dog"?'),
        ('name = "x"\npet = { type = "dog", lives = 3, barks = true }', "pet.lives: this key is unknown"),
        ('name = "x"\nheaders = 5', "headers: found 5, expected a table"),
        ('name = "x"\nheaders = { "X A" = "b" }', 'headers."X A": found the key "X A", expected a header\'s name'),
        (
            'name = "x"\nheaders = { X-A = 2026-01-01 }',
            "headers.X-A: found a date or time: a date or time without quotes is no JSON value",
        ),
        ('name = "x"\nfree = [inf]', "free[0]: found inf: JSON has no such number"),
        ('name = "x"\nfree = { a = "file:nope" }', "free.a: the file"),
        ('name = "x"\nschema = [1]', "schema: found a list, expected a JSON Schema as a table, or the path of a JSON file"),
        (
            'name = "x"\n[inner]\nwidth = 1\ninclude = ["x"]',
            "inner.include: include must stand before the first table; after [inner]",
        ),
        ('name = "x"\n[headers]\ninclude = ["x.toml"]', "headers.include: include must stand before the first table"),
        ('name = "x"\n[free]\ninclude = ["x.toml"]', "free.include: include must stand before the first table"),
    ],
)
def test_a_mistake_is_told_with_its_path_what_was_found_and_what_was_expected(tmp_path: Path, text: str, says: str) -> None:
    reading = Reading(tmp_path, text, {})
    assert reading.problems[0].startswith(says), reading.problems
    assert isinstance(reading.value, Top | Wrong)


def test_every_mistake_is_told_at_once_and_defaults_stand_in(tmp_path: Path) -> None:
    reading = Reading(tmp_path, 'name = "x"\non = 1\ncount = 0\nzz = 1\nwords = [1, 2]\n', {})
    assert len(reading.problems) == 5
    assert reading.value == Top(name="x")


def test_what_a_reference_led_to_is_never_told(tmp_path: Path) -> None:
    text = 'name = "x"\nis = "env:A"\nsize = "env:A"\ntoken = { a = 1 }\nwords = "env:A"\non = "env:A"\ncount = "env:B"\n'
    reading = Reading(tmp_path, text, {"A": "hunter2", "B": "12345"})
    assert len(reading.problems) == 6
    assert "hunter2" not in str(reading.problems)
    assert "12345" not in str(reading.problems)
    assert "is: found the value of env:A, expected" in reading.problems[0]


def test_a_partial_table_is_not_asked_for_what_is_missing(tmp_path: Path) -> None:
    reading = Reading(tmp_path, "inner = { depth = 3 }\nrows = [{}]\npet = { type = 'dog' }", {}, partial=True)
    assert reading.problems == [
        'inner.depth: found 3, expected a duration such as "60s": the unit is missing; did you mean "3s"?'
    ]
    assert isinstance(reading.value, Wrong)


def test_problems_know_their_line(tmp_path: Path) -> None:
    reading = Reading(tmp_path, 'name = "x"\n\n[inner]\nwidth = 0\n', {})
    assert [problem.line for problem in reading.decoder.problems] == [4]


def test_fields_are_told_with_what_their_annotations_say() -> None:
    fields = fields_of(Top)
    assert fields["name"].reason == "What it is called."
    assert fields["name"].required
    assert fields["is"].name == "is_"
    assert fields["headers"].default == {}
    assert is_section(fields["inner"].hint)
    assert not is_section(fields["pet"].hint)
    assert expected(fields["pet"].hint) == "a table"
    assert expected(Annotated[int, Meta(le=3)]) == "a whole number up to 3"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("x" * 100, '"' + "x" * 57 + '…"'),
        ('a"b\n', '"a\\"b\\n"'),
        ("https://user:word@host/path", '"https://***@host/path"'),
        (Referred("secret", "env:A"), "the value of env:A"),
        (1.5, "1.5"),
        (False, "false"),
        ([], "a list"),
        ({}, "a table"),
    ],
)
def test_values_are_shown_short_and_without_secrets(raw: object, shown: str) -> None:
    assert show(raw) == shown


def test_the_kind_of_a_value_tells_nothing_of_the_value() -> None:
    assert [kind_of(raw) for raw in ("x", True, 1, 1.0, Referred("s", "env:A"))] == [
        "a string",
        "true or false",
        "a number",
        "a number",
        "the value of env:A",
    ]
