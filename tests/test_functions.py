"""A function's schema, its arguments and its result: src/homing/functions.py."""

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import json
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Generic, Literal, NotRequired, TypedDict, TypeVar, cast

import msgspec
import pydantic
import pytest

from homing.core import codec
from homing.core.messages import MethodOffer, Ready
from homing.core.methods import compile_method
from homing.core.specs import MethodSpec
from homing.functions import Function, WrongParams, result_text

T = TypeVar("T")


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x is left of the wall")


class Line(msgspec.Struct):
    points: list[Point]
    colour: Colour = Colour.RED


class Person(TypedDict):
    name: str
    born: NotRequired[dt.date]


class Street(pydantic.BaseModel):
    name: str


class Address(pydantic.BaseModel):
    street: Street
    number: int = pydantic.Field(ge=1)


class Weight(pydantic.BaseModel):
    kg: float


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    day: dt.date
    sizes: tuple[int, ...]


@pydantic.dataclasses.dataclass
class Checked:
    x: Annotated[int, pydantic.Field(gt=3)]


class Tree(pydantic.BaseModel):
    leaves: int = 0
    branches: list["Tree"] = []


class Inner(pydantic.BaseModel):
    a: int


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


class Größe(pydantic.BaseModel):  # noqa: PLC2401  # as it may be called
    street: Street


class Elsewhere:  # as another module
    class Street(pydantic.BaseModel):
        lane: int

    class Address(pydantic.BaseModel):
        street: "Elsewhere.Street"

    @dataclasses.dataclass
    class Point:
        lat: float


Elsewhere.Address.model_rebuild()


def function(call: Callable[..., object], **options: Any) -> Function:
    return Function(call, service="reports", **{"name": "build", **options})


def with_hint(hint: object, *default: object) -> Function:
    def build(value):
        return value

    build.__annotations__["value"] = hint
    build.__defaults__ = default
    return function(build)


# schemas


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (str, {"type": "string"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
        (object, {"description": "Any JSON."}),
        (Any, {}),
        (bytes, {"type": "string", "contentEncoding": "base64"}),
        (dt.date, {"type": "string", "format": "date"}),
        (uuid.UUID, {"type": "string", "format": "uuid"}),
        (Literal["a", "b", 3], {"enum": [3, "a", "b"]}),
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (int | None, {"anyOf": [{"type": "integer"}, {"type": "null"}]}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (Annotated[int, msgspec.Meta(ge=1, le=9)], {"type": "integer", "minimum": 1, "maximum": 9}),
        (Annotated[str, msgspec.Meta(pattern="^a")], {"type": "string", "pattern": "^a"}),
        (Colour, {"$ref": "#/$defs/Colour"}),
        (Point, {"$ref": "#/$defs/Point"}),
        (Line, {"$ref": "#/$defs/Line"}),
        (Person, {"$ref": "#/$defs/Person"}),
        (list[Point], {"type": "array", "items": {"$ref": "#/$defs/Point"}}),
    ],
    ids=str,
)
def test_a_type_is_a_schema(hint: object, schema: object) -> None:
    assert with_hint(hint).schema["properties"] == {"value": schema}


@pytest.mark.parametrize(
    ("hint", "right", "read", "wrong", "path"),
    [
        (int, "1", 1, '"1"', "/value"),
        (int, "123456789012345678901234567890", 123456789012345678901234567890, "1.5", "/value"),
        (object, '{"a": [1]}', {"a": [1]}, None, ""),
        (decimal.Decimal, '"1.10"', decimal.Decimal("1.10"), '"x"', "/value"),
        (dt.date, '"2024-02-29"', dt.date(2024, 2, 29), '"2023-02-29"', "/value"),
        (Colour, '"red"', Colour.RED, '"green"', "/value"),
        (Point, '{"x": 1}', Point(1), '{"x": "1"}', "/value/x"),
        (Point, '{"x": 1, "y": 2}', Point(1, 2), '{"x": -1}', "/value"),
        (Line, '{"points": [{"x": 1}]}', Line([Point(1)]), '{"points": [{"x": 1}, {"x": []}]}', "/value/points/1/x"),
        (Person, '{"name": "Ada"}', {"name": "Ada"}, '{"born": "1815-12-10"}', "/value"),
        (Street, '{"name": "High"}', Street(name="High"), '{"name": 1}', "/value/name"),
        (list[Street], '[{"name": "High"}]', [Street(name="High")], '[{"name": "a"}, {}]', "/value/1/name"),
        (
            Address | None,
            '{"street": {"name": "High"}, "number": 7}',
            Address(street=Street(name="High"), number=7),
            '{"street": {"name": "High"}, "number": 0}',
            "/value/number",
        ),
        (
            Tree,
            '{"branches": [{"leaves": 3}]}',
            Tree(branches=[Tree(leaves=3)]),
            '{"branches": [{"leaves": "x"}]}',
            "/value/branches/0/leaves",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_json_is_read_as_the_type_says(hint: object, right: str, read: object, wrong: str | None, path: str) -> None:
    made = with_hint(hint)
    assert made.arguments(b'{"value": %b}' % right.encode()) == {"value": read}
    schema = compile_method(MethodSpec(name=made.name, service="reports", params=made.schema))[0]
    assert schema is not None
    assert schema.validate({"value": json.loads(right)})[1] == ()
    if wrong is not None:
        with pytest.raises(WrongParams) as caught:
            made.arguments(b'{"value": %b}' % wrong.encode())
        assert [error.path for error in caught.value.errors] == [path]
        assert all("\n" not in error.message for error in caught.value.errors)


def test_a_signature_is_a_schema() -> None:
    def build(year: int, format: Literal["pdf", "csv"] = "pdf", *, by: Colour = Colour.RED, anything=()) -> None:
        """Build the report.

        At length.
        """

    made = function(build, effect="safe", timeout_s=60)
    assert made.schema == {
        "type": "object",
        "properties": {
            "year": {"type": "integer"},
            "format": {"enum": ["csv", "pdf"], "default": "pdf"},
            "by": {"$ref": "#/$defs/Colour", "default": "red"},
            "anything": {"description": "Any JSON.", "default": []},
        },
        "required": ["year"],
        "additionalProperties": False,
        "$defs": {"Colour": {"title": "Colour", "enum": ["blue", "red"]}},
    }
    offer = made.offer
    assert json.loads(offer.params) == made.schema
    assert offer == MethodOffer("reports.build", "reports", "safe", 60_000, "Build the report.", offer.params, ("year", "format"))
    assert function(build).offer.timeout_ms == 0


def test_models_of_one_name_in_a_model_keep_their_definitions() -> None:
    def build(one: Address, other: Tree) -> None: ...

    schema = function(build).schema
    assert set(schema["$defs"]) == {"Address.Street", "Tree.Tree"}  # type: ignore[call-overload]
    assert [made for made in compile_method(MethodSpec(name="x", service="s", params=schema))[1] if not made.warning] == []


def test_types_of_one_name_keep_their_definitions() -> None:
    def build(
        one: Street, other: Inner, third: Address, fourth: Elsewhere.Address, point: Point, far: Elsewhere.Point
    ) -> None: ...
    def both(pair: tuple[Address, Elsewhere.Address]) -> None: ...

    made = function(build)
    schema, problems = compile_method(MethodSpec(name="x", service="s", params=made.schema))
    assert schema is not None, problems
    one, other = {"street": {"name": "High"}, "number": 7}, {"street": {"lane": 3}}
    right = {"one": {"name": "a"}, "other": {"a": 1}, "third": one, "fourth": other, "point": {"x": 1}, "far": {"lat": 1.5}}
    assert schema.validate(right)[1] == ()
    assert [error.path for error in schema.validate(right | {"third": other})[1]] == ["/third", "/third/street"]
    schema, problems = compile_method(MethodSpec(name="x", service="s", params=function(both).schema))
    assert schema is not None, problems
    assert schema.validate({"pair": [one, other]})[1] == ()
    assert schema.validate({"pair": [other, one]})[1] != ()


def test_generic_models_and_names_in_any_alphabet_have_a_schema() -> None:
    def build(page: Page[Street], size: Größe) -> None: ...

    schema, problems = compile_method(MethodSpec(name="x", service="s", params=function(build).schema))
    assert schema is not None, problems
    assert schema.validate({"page": {"items": [{"name": "High"}]}, "size": {"street": {"name": "High"}}})[1] == ()


@pytest.mark.parametrize("default", [object(), float("inf"), {1, object()}], ids=["object", "inf", "set"])
def test_a_default_that_json_cannot_say_is_not_said(default: object) -> None:
    made = with_hint(float, default)
    assert made.schema["properties"] == {"value": {"type": "number"}}
    assert made.arguments(b"{}") == made.arguments(b"") == {}


def test_annotations_may_be_text_and_lie_behind_a_decorator() -> None:
    @functools.wraps(written_later)
    def build(*args: object, **kwargs: object) -> object:
        return written_later(*args, **kwargs)  # type: ignore[arg-type]

    assert function(build).arguments(b'{"point": {"x": 3}}') == {"point": Point(3)}


def test_what_it_returns_may_be_named_before_it_is_there() -> None:
    def build(point: "Point") -> "Nowhere":  # type: ignore[name-defined]  # noqa: F821
        return point

    assert function(build).arguments(b'{"point": {"x": 3}}') == {"point": Point(3)}


def written_later(point: "Point") -> object:
    return point


async def coroutine() -> None: ...


class Callables:
    async def __call__(self, x: int) -> int:
        return x

    def bound(self, x: int) -> int:
        return x


def test_what_is_async_is_told_from_what_is_not() -> None:
    assert function(coroutine).is_async
    assert function(Callables()).is_async
    assert function(Callables()).positional == ("x",)
    assert not function(Callables().bound).is_async
    assert function(functools.partial(Callables().bound)).arguments(b'{"x": 1}') == {"x": 1}


def test_a_partial_has_the_types_and_the_summary_of_its_function() -> None:
    def build(year: int, form: str = "pdf") -> None:
        """Build it."""

    made = function(functools.partial(functools.partial(build), form="csv"))
    assert made.summary == "Build it."
    assert made.schema["properties"] == {"year": {"type": "integer"}, "form": {"type": "string", "default": "csv"}}


def test_a_timeout_that_is_next_to_nothing_is_not_none() -> None:
    assert [function(coroutine, timeout_s=seconds).offer.timeout_ms for seconds in (None, 1e-9, 0.05)] == [0, 1, 50]


# refused


def positional_only(year: int, /) -> None: ...
def any_number(*years: int) -> None: ...
def any_name(**years: int) -> None: ...
def two_models(value: Street | Address) -> None: ...
def unknown_type(value) -> None: ...
def no_json_type(value: Callables) -> None: ...
def generator():
    yield 1


async def async_generator():
    yield 1


unknown_type.__annotations__["value"] = "threading"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (positional_only, ["reports.build", "'year'", "by position only"]),
        (any_number, ["reports.build", "'years'", "any number"]),
        (any_name, ["reports.build", "'years'", "any name"]),
        (two_models, ["reports.build", "'value'", "not supported"]),
        (unknown_type, ["reports.build", "annotation", "threading"]),
        (no_json_type, ["reports.build", "'value': type <class", "Callables'> is not supported"]),
        (generator, ["reports.build", "yields"]),
        (async_generator, ["reports.build", "yields"]),
        (type, ["reports.build", "signature"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_a_method_is_refused_by_name(call: Callable[..., object], words: list[str]) -> None:
    with pytest.raises(TypeError) as caught:
        function(call)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"effect": "twice"}, 'effect is \'twice\', expected "once", "keyed" or "safe"'),
        ({"effect": ["once"]}, "effect is ['once'], expected"),
        ({"timeout_s": 0}, "timeout is 0, expected seconds"),
        ({"timeout_s": 2147484}, "at most 2147483"),
        ({"timeout_s": float("inf")}, "timeout is inf"),
        ({"timeout_s": "60s"}, "timeout is '60s'"),
        ({"timeout_s": True}, "timeout is True"),
        ({"name": "a*"}, "no name for a method"),
        ({"name": "a\nb"}, "no name for a method"),
        ({"name": "a\x1b[1m"}, "no name for a method"),
        ({"name": "a\ud800"}, "no name for a method"),
        ({"name": ""}, "no name for a method"),
    ],
    ids=str,
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match="reports") as caught:
        function(coroutine, **options)
    assert words in str(caught.value)


def with_params(*names: str) -> Callable[..., object]:
    made: dict[str, Any] = {}
    exec(f"def build({', '.join(names)}): ...", made)
    return cast("Callable[..., object]", made["build"])


def told(length: int) -> Callable[..., object]:
    def build() -> None: ...

    build.__doc__ = "s" * length
    return build


def with_default(length: int) -> Callable[..., object]:
    def build(text: str = "s" * length) -> None: ...

    return build


@pytest.mark.parametrize(
    ("fits", "too_large", "words"),
    [
        (
            with_default(1_048_400),
            with_default(1_048_577),
            "JSON Schema of its params has 10.* bytes, at most 1048576 can be told",
        ),
        (told(65_536), told(65_537), "first line of its docstring has 65537 characters, at most 65536"),
        (
            with_params(*(f"p{number}" for number in range(256))),
            with_params(*(f"p{n}" for n in range(257))),
            "257 params .* at most 256",
        ),
        (with_params("p" * 256), with_params("p" * 257), "the name of a param has 257 characters, at most 256"),
    ],
    ids=["schema", "summary", "params", "names"],
)
def test_what_no_broker_would_read_is_refused(fits: Callable[..., object], too_large: Callable[..., object], words: str) -> None:
    """Else the worker would be there, and nobody would hear of it."""
    ready = Ready(bytes(16), {"reports": 1}, 1000, (Function(fits, service="reports").offer,))
    assert codec.decode(codec.encode([ready])) == [ready]
    with pytest.raises(ValueError, match=f"^reports.build: .*{words}"):
        Function(too_large, service="reports")


def test_a_lambda_needs_a_name() -> None:
    with pytest.raises(TypeError, match=r"method\(name=…\)"):
        Function(lambda: None, service="reports")
    assert Function(lambda: None, service="reports", name="nothing").name == "reports.nothing"


# params


def two(year: int, month: int = 1) -> None: ...


@pytest.mark.parametrize(
    ("params", "errors"),
    [
        (b"{}", [("", 'lacks the member "year"')]),
        (b"", [("", 'lacks the member "year"')]),
        (b"[]", [("", "is no JSON object")]),
        (b"{", [("", "is no JSON object")]),
        (b'{"year": 1, "yaer": 2}', [("", "has what the method does not know: yaer")]),
        (b'{"year": "a", "month": {}}', [("/year", "Expected `int`, got `str`"), ("/month", "Expected `int`, got `object`")]),
    ],
    ids=repr,
)
def test_wrong_params_are_told_one_by_one(params: bytes, errors: list[tuple[str, str]]) -> None:
    with pytest.raises(WrongParams) as caught:
        function(two).arguments(params)
    assert [(error.path, error.message) for error in caught.value.errors] == errors


def test_a_strict_model_takes_from_json_what_json_has() -> None:
    asked = with_hint(Strict).arguments(b'{"value": {"day": "2024-02-29", "sizes": [1, 2]}}')
    assert asked["value"] == Strict(day=dt.date(2024, 2, 29), sizes=(1, 2))
    with pytest.raises(WrongParams, match="/value/sizes/0: Input should be a valid integer"):
        with_hint(Strict).arguments(b'{"value": {"day": "2024-02-29", "sizes": ["1"]}}')


@pytest.mark.parametrize(
    "hint",
    [
        Checked,
        list[Checked] | None,
        Annotated[Checked, "x"],
        dict[str, tuple[Checked, ...]],
        Annotated[int, pydantic.Field(gt=3)],
        list[pydantic.PositiveInt],
    ],
    ids=["itself", "union", "annotated", "nested", "field", "alias"],
)
def test_what_would_not_be_checked_is_refused(hint: object) -> None:
    with pytest.raises(TypeError, match=r"reports\.build: parameter 'value': what a dataclass or Field of pydantic's asks for"):
        with_hint(hint)
    with pytest.raises(TypeError, match="would not be checked; use a BaseModel"):
        with_hint(int, pydantic.Field(gt=3))


@pytest.mark.parametrize(
    ("hint", "value", "path", "message"),
    [
        (dict[int, int], '{"a": 1}', "/value", "Of a key: Expected `int`, got `str`"),
        (dict[str, list[int]], '{"a": ["x"]}', "/value", "Of a member: Expected `int`, got `str`"),
        (list[dict[str, int]], '[{}, {"a": "x"}]', "/value/1", "Of a member: Expected `int`, got `str`"),
        (dict[str, Address], '{"a": {"street": {"name": "x"}, "number": 0}}', "/value", "greater than or equal to 1"),
    ],
    ids=["key", "value", "below", "pydantic"],
)
def test_a_path_ends_where_it_is_not_known(hint: object, value: str, path: str, message: str) -> None:
    with pytest.raises(WrongParams) as caught:
        with_hint(hint).arguments(b'{"value": %b}' % value.encode())
    (error,) = caught.value.errors
    assert error.path == path
    assert message in error.message


def test_what_goes_deeper_than_any_stack_is_wrong_and_no_fault() -> None:
    with pytest.raises(WrongParams):
        with_hint(object).arguments(b'{"value": %b}' % (b"[" * 100_000 + b"]" * 100_000))


def test_wrong_utf8_is_wrong_and_no_fault() -> None:
    with pytest.raises(WrongParams):
        with_hint(str).arguments(b'{"value": "\xff"}')


# results


class Kind:  # of str, float and int, as libraries have them
    class Text(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "something else"

    class Number(float): ...

    class Count(int): ...


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (None, b"null"),
        ({"a": [1, 2.5, "x", None]}, b'{"a":[1,2.5,"x",null]}'),
        (Point(1, 2), b'{"x":1,"y":2}'),
        (Line([]), b'{"points":[],"colour":"red"}'),
        (Address(street=Street(name="High"), number=7), b'{"street":{"name":"High"},"number":7}'),
        ([Street(name="High")], b'[{"name":"High"}]'),
        (b"\x00", b'"AA=="'),
        (dt.date(2024, 2, 29), b'"2024-02-29"'),
        (msgspec.Raw(b'{"as": "it is"}'), b'{"as": "it is"}'),
        (2**70, b"1180591620717411303424"),
        ({Kind.Text("a"): [Kind.Text("b"), Kind.Number(1.5), Kind.Count(3)]}, b'{"a":["b",1.5,3]}'),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else type(value).__name__,
)
def test_a_result_is_json(result: object, text: bytes) -> None:
    assert result_text(result) == text


def loop() -> list[object]:
    held: list[object] = []
    held.append(held)
    return held


@pytest.mark.parametrize(
    ("result", "why"),
    [
        (object(), "a builtins.object has no form in JSON"),
        (coroutine, "a builtins.function has no form in JSON"),
        (Street, "has no form in JSON"),
        (float("nan"), "NaN or Infinity"),
        ({"a": (1, {2: float("inf")})}, "NaN or Infinity"),
        (Weight(kg=float("nan")), "NaN or Infinity"),
        ([Kind.Number("inf")], "NaN or Infinity"),
        ("\ud800", "surrogates"),
        (loop(), "nested too deeply"),
        (msgspec.Raw(b"{"), "not JSON"),
        (msgspec.Raw(b'"\xff"'), "not UTF-8"),
    ],
    ids=[str(number) for number in range(11)],
)
def test_what_has_no_form_in_json_is_told(result: object, why: str) -> None:
    with pytest.raises((TypeError, ValueError), match=why):
        result_text(result)


def test_a_coroutine_that_a_decorator_handed_on_is_told_as_such() -> None:
    with pytest.raises(TypeError, match="is what decorates the function an `async def` too"):
        result_text(coroutine())


def test_a_null_beside_numbers_is_fine() -> None:
    assert (
        result_text([Point(1), None, {"a": None}, 1.5, "null", b"x", 3]) == b'[{"x":1,"y":0},null,{"a":null},1.5,"null","eA==",3]'
    )
