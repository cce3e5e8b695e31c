"""Values of `headers`, `query` and `body`: literals, and strings that begin with `=`, which are JMESPath.

    {amount = "=params.amount", currency = "eur", note = "==literal"}   becomes a template, rendered for each call

A null result drops the member of an object; in an array it stays, for it holds a place.
"""

from math import isfinite
from typing import TypeAlias

from homing.core.mapping import EvaluationError, Expression, compile_expression
from homing.core.scalars import TOO_EXACT, inexact, path_under, pointer, pointer_to
from homing.core.specs import MappingError, Problem
from homing.core.traps import Place


class Constant:
    """A value that is the same for every call."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def render(self, root: dict[str, object]) -> object:
        """Return the value itself: it is not to be changed."""
        return self.value


class Mapped:
    """A value that an expression makes."""

    __slots__ = ("expression", "pointer")

    def __init__(self, expression: Expression) -> None:
        self.expression = expression
        path = expression.path
        self.pointer = pointer(path[1:]) if path and path[0] == "params" else ""

    def render(self, root: dict[str, object]) -> object:
        """Evaluate. Raises MappingError."""
        try:
            return self.expression.search(root)
        except EvaluationError as error:
            raise MappingError(str(error), self.pointer) from error


class Members:
    """An object with something mapped in it."""

    __slots__ = ("members",)

    def __init__(self, members: tuple[tuple[str, "Template"], ...]) -> None:
        self.members = members

    def render(self, root: dict[str, object]) -> object:
        """Render the members that are not null. Raises MappingError."""
        made: dict[str, object] = {}
        for name, template in self.members:
            value = template.render(root)
            if value is not None:
                made[name] = value
        return made


class Elements:
    """An array with something mapped in it."""

    __slots__ = ("elements",)

    def __init__(self, elements: tuple["Template", ...]) -> None:
        self.elements = elements

    def render(self, root: dict[str, object]) -> object:
        """Render the elements, null where they are. Raises MappingError."""
        return [element.render(root) for element in self.elements]


Template: TypeAlias = Constant | Mapped | Members | Elements


NOTHING: tuple[object, ...] = (None, "", [], {})
"""What is absent from a request, or as good as absent."""


def mapped_values(template: Template, root: dict[str, object]) -> list[object]:
    """Return every value that is mapped in a template. Raises MappingError."""
    if isinstance(template, Mapped):
        return [template.render(root)]
    inner: list[Template] = []
    if isinstance(template, Members):
        inner = [member for _, member in template.members]
    elif isinstance(template, Elements):
        inner = list(template.elements)
    return [value for each in inner for value in mapped_values(each, root)]


class Report:
    """Where problems are gathered while one table is compiled: `at` goes down one key."""

    def __init__(self, path: str, problems: list[Problem]) -> None:
        self.path = path
        self.problems = problems

    def at(self, key: str | int) -> "Report":
        """Return the report of what stands under a key, written as TOML would have it."""
        if isinstance(key, int):
            return Report(f"{self.path}[{key}]", self.problems)
        return Report(path_under(self.path, key), self.problems)

    def problem(self, message: str) -> None:
        """Add what makes the configuration wrong."""
        self.problems.append(Problem(self.path, message))

    def warn(self, message: str) -> None:
        """Add what is legal but unwise."""
        self.problems.append(Problem(self.path, message, warning=True))


class Uses:
    """What a request takes from the params and the call, over all its expressions and variables.

    `params` are names of members, None if they are used as a whole.
    """

    def __init__(self) -> None:
        self.params: set[str] | None = set()
        self.key = False

    def add(self, params: frozenset[str] | None, key: bool) -> None:
        """Add what one expression uses."""
        self.params = None if self.params is None or params is None else self.params | params
        self.key = self.key or key

    def add_all(self) -> None:
        """Add what nobody knows."""
        self.add(None, True)


def compile_value(value: object, place: Place, schema: object, report: Report, uses: Uses) -> Template:
    """Compile a value of the configuration; problems go into the report, and then the template is not to be used."""
    if isinstance(value, str):
        if not value.startswith("="):
            return Constant(value)
        if value.startswith("=="):
            return Constant(value[1:])
        expression, problems = compile_expression(value[1:], place, schema)
        for message in problems:
            report.problem(message)
        if expression is None:
            uses.add_all()
            return Constant(None)
        for message in expression.doubts:
            report.warn(message)
        uses.add(expression.params, expression.uses_key)
        return Mapped(expression)
    if isinstance(value, dict):
        members = tuple((name, compile_value(item, place, schema, report.at(name), uses)) for name, item in value.items())
        if all(isinstance(template, Constant) for _, template in members):
            return Constant({name: template.render({}) for name, template in members})
        return Members(members)
    if isinstance(value, list | tuple):
        elements = tuple(compile_value(item, place, schema, report.at(index), uses) for index, item in enumerate(value))
        if all(isinstance(template, Constant) for template in elements):
            return Constant([template.render({}) for template in elements])
        return Elements(elements)
    if isinstance(value, float) and not isfinite(value):
        report.problem(f"{value} is no JSON number")
    elif not isinstance(value, bool | int | float):
        report.problem(f"a {type(value).__name__} is no JSON value: write it as a string")
    return Constant(value)


def check_exact(value: object, params: object) -> None:
    """Raises MappingError if a mapped value holds a number whose decimal value no float can keep."""
    found = inexact(value)
    if found is not None:
        raise MappingError(f"{str(found)[:40]} {TOO_EXACT}", pointer_to(params, found) or "")
