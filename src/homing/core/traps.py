"""What is wrong with a JMESPath expression though it compiles: it would be null for ever, or raise at the first call.

The expression comes as a syntax tree of `Node`; nothing here knows the library that parsed it. The walk is an abstract
interpretation: a `Scope` stands for what is known of a value before there is one.
"""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Literal, TypeAlias

import msgspec


class Node(msgspec.Struct, frozen=True):
    """A node of the syntax tree; the children of a slice are integers or None."""

    type: str
    children: tuple["Node | int | None", ...] = ()
    value: object = None


class Place(msgspec.Struct, frozen=True):
    """Where an expression stands: the names it may begin with, and what of `call` it may see."""

    names: tuple[str, ...]
    call: tuple[str, ...] = ()


REQUEST = Place(("params", "call"), ("id", "key", "principal"))
HEADERS = Place(("params", "call"), ("id", "key", "principal", "attempt"))
RESPONSE = Place(("status", "headers", "body"))

Arity: TypeAlias = tuple[tuple[bool, ...], bool]
"""Of a function: for each argument whether it is an `&expression`, and whether more of the last may follow."""


class Scope(msgspec.Struct, frozen=True):
    """What is known of a value: its place among the roots, or its JSON Schema (None: nothing)."""

    kind: Literal["root", "params", "call", "headers", "status", "text", "not", "other"] = "other"
    schema: object = None


OTHER = Scope()
_TEXT = Scope("text")
_OBJECTS = frozenset({"root", "params", "call", "headers"})
_RETURNS_TEXT = frozenset({"join", "to_string", "type"})
_WORDS = frozenset({"true", "false", "null"})
_ORDER = {"lt": "<", "lte": "<=", "gt": ">", "gte": ">="}


class Analysis:
    """What an expression uses, and all that is wrong with it.

    `roots` are the names it begins with. `params` are the members of the params it uses, None for all of them.
    """

    def __init__(self, place: Place, functions: Mapping[str, Arity], schema: object) -> None:
        self.place = place
        self.functions = functions
        self.schema = schema
        self.problems: list[str] = []
        self.doubts: list[str] = []  # what is legal, and null for ever
        self.roots: set[str] = set()
        self.params: set[str] | None = set()
        self.uses_key = False

    def run(self, tree: Node) -> None:
        """Walk the whole tree."""
        self._whole(self._visit(tree, Scope("root")))

    def _problem(self, message: str) -> None:
        if message not in self.problems:
            self.problems.append(message)

    def _whole(self, scope: Scope) -> Scope:
        """The value of `scope` is used as a whole: everything in it counts as used."""
        if scope.kind == "root":
            self.roots.update(self.place.names)
            self.params, self.uses_key = None, True
        elif scope.kind == "params":
            self.params = None
        elif scope.kind == "call":
            self.uses_key = True
        return scope

    def _visit(self, node: Node, scope: Scope, first: bool = True) -> Scope:
        """Return what is known of the node's value, evaluated on a value of `scope`. After a dot, `first` is False."""
        nodes = [child for child in node.children if isinstance(child, Node)]
        match node.type:
            case "field":
                return self._field(str(node.value), scope, first)
            case "current" | "identity":
                return scope
            case "literal":
                return self._literal(node.value)
            case "subexpression" | "index_expression" | "pipe":
                return self._chain(nodes, scope, after_dot=node.type != "pipe")
            case "index":
                self._check_array(scope)
                return element(scope)
            case "projection" | "filter_projection" | "value_projection" | "flatten":
                return self._projection(node.type, nodes, scope)
            case "comparator":
                return self._comparator(str(node.value), [self._whole(self._visit(child, scope)) for child in nodes])
            case "not_expression":
                self._whole(self._visit(nodes[0], scope))
                return Scope("not")
            case "function_expression":
                return self._function(str(node.value), nodes, scope)
            case "expref":
                self._problem("&… is an argument of functions such as sort_by, and nothing else")
        # and, or, slices, multi-selects and their pairs: whatever they hold is evaluated on the same value
        for child in nodes:
            self._whole(self._visit(child, scope))
        return OTHER

    def _field(self, name: str, scope: Scope, first: bool) -> Scope:
        if first and name in _WORDS:
            self._problem(f"{name} alone is the name of a member: the value is written in backticks, `{name}`")
            return OTHER
        if scope.kind == "root":
            return self._root(name)
        if scope.kind == "call":
            self._call(name)
            return _TEXT if name != "attempt" else OTHER
        if scope.kind == "headers":
            if name != name.lower():
                self._problem(f'header names are lower-case here: write headers."{name.lower()}"')
            return _TEXT
        if scope.kind == "params" and self.params is not None:
            self.params.add(name)
        return self._member(name, scope)

    def _root(self, name: str) -> Scope:
        if name not in self.place.names:
            begin = " or ".join(self.place.names)
            self._problem(f"unknown name {name}: an expression here begins with {begin}; a text is written '{name}'")
            return OTHER
        self.roots.add(name)
        if name == "params":
            return Scope("params", self.schema)
        if name == "call":
            return Scope("call")
        if name == "headers":
            return Scope("headers")
        return Scope("status") if name == "status" else OTHER

    def _call(self, name: str) -> None:
        if name == "key":
            self.uses_key = True
        if name in self.place.call:
            return
        if name == "attempt":
            self._problem("call.attempt may stand in headers only: all else of a request is the same in every attempt")
        else:
            self._problem(f"call has no {name}: it has {', '.join(self.place.call)}")

    def _member(self, name: str, scope: Scope) -> Scope:
        schema = scope.schema
        declared = properties(schema)
        if name in declared:
            found = declared[name]
            return Scope("text" if _is_text(found) else "other", found)
        if is_closed(schema):
            self.doubts.append(undeclared(name, declared))
        return OTHER

    def _literal(self, value: object) -> Scope:
        if _has_bad_float(value):
            self._problem("a literal holds a number that is not finite")
        return _TEXT if isinstance(value, str) else OTHER

    def _chain(self, nodes: list[Node], scope: Scope, *, after_dot: bool) -> Scope:
        scope = self._visit(nodes[0], scope)
        if after_dot:
            self._check_not(scope)
        for child in nodes[1:]:
            scope = self._visit(child, scope, first=not after_dot)
        return scope

    def _projection(self, kind: str, nodes: list[Node], scope: Scope) -> Scope:
        left = self._whole(self._visit(nodes[0], scope))
        self._check_not(left)
        if kind != "value_projection":
            self._check_array(left)
        if kind == "flatten":
            return left
        inner = OTHER if kind == "value_projection" else element(left)
        if kind == "filter_projection":
            self._look_outside(nodes[2], inner)
            self._visit(nodes[2], inner)
        self._visit(nodes[1], inner, first=False)
        return OTHER

    def _look_outside(self, condition: Node, inner: Scope) -> None:
        """Within [?…] every name is a member of the element. Whoever writes call.key there means something else."""
        nodes = [child for child in condition.children if isinstance(child, Node)]
        if condition.type == "subexpression" and nodes[0].type == nodes[1].type == "field":
            root, name = str(nodes[0].value), str(nodes[1].value)
            if (root == "params" or (root == "call" and name in HEADERS.call)) and root not in properties(inner.schema):
                self.doubts.append(
                    f"{root}.{name} within [?…] is looked for in each element: what stands outside is not seen there"
                )
        for child in nodes:
            self._look_outside(child, inner)

    def _check_not(self, scope: Scope) -> None:
        if scope.kind == "not":
            self._problem("! binds before . and [ ]: what follows would be null for ever; write !(a.b)")

    def _check_array(self, scope: Scope) -> None:
        if scope.kind in _OBJECTS:
            name = "what an expression begins with" if scope.kind == "root" else scope.kind
            self._problem(f"{name} is an object: [ ] on it would be null for ever; write .name, or .* for all values")

    def _comparator(self, operator: str, sides: list[Scope]) -> Scope:
        kinds = {side.kind for side in sides}
        if operator in _ORDER and "text" in kinds:
            self._problem(f"{_ORDER[operator]} compares numbers only: texts have no order in JMESPath")
        elif kinds == {"status", "text"}:
            self._problem("status is a number, which no text equals: write it in backticks, as in status == `429`")
        return OTHER

    def _function(self, name: str, nodes: list[Node], scope: Scope) -> Scope:
        arity = self.functions.get(name)
        if arity is None:
            self._problem(f"unknown function {name}(){did_you_mean(name, self.functions)}")
        else:
            self._arguments(name, nodes, arity)
        for child in nodes:
            if child.type == "expref":
                for inner in child.children:
                    assert isinstance(inner, Node)
                    self._visit(inner, OTHER)
            else:
                self._whole(self._visit(child, scope))
        return _TEXT if name in _RETURNS_TEXT else OTHER

    def _arguments(self, name: str, nodes: list[Node], arity: Arity) -> None:
        expected, variadic = arity
        if len(nodes) < len(expected) or (len(nodes) > len(expected) and not variadic):
            least = "at least " if variadic else ""
            self._problem(f"{name}() takes {least}{len(expected)} argument{'s' * (len(expected) != 1)}, not {len(nodes)}")
        for index, child in enumerate(nodes):
            wanted = expected[min(index, len(expected) - 1)]
            if wanted != (child.type == "expref"):
                how = "is an &expression" if wanted else "is a value, not an &expression"
                self._problem(f"argument {index + 1} of {name}() {how}")


def element(scope: Scope) -> Scope:
    """What is known of one element of an array."""
    items = scope.schema.get("items") if isinstance(scope.schema, dict) else None
    return Scope("text" if _is_text(items) else "other", items)


def properties(schema: object) -> dict[str, object]:
    """The members that an object schema declares."""
    found = schema.get("properties") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else {}


def is_closed(schema: object) -> bool:
    """Whether an object that fits the schema has declared members only."""
    return isinstance(schema, dict) and schema.get("additionalProperties") is False and not schema.get("patternProperties")


def undeclared(name: str, declared: Iterable[str]) -> str:
    """Say that a closed schema does not have a member."""
    return f"the params' schema has no {name}{did_you_mean(name, declared)}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question to append, "" if nothing is close."""
    close = get_close_matches(name, known, 1)
    return f": did you mean {close[0]}?" if close else ""


def _is_text(schema: object) -> bool:
    return isinstance(schema, dict) and schema.get("type") == "string"


def _has_bad_float(value: object) -> bool:
    if isinstance(value, float):
        return value != value or value in {float("inf"), float("-inf")}  # noqa: PLR0124 - NaN
    if isinstance(value, dict):
        return any(map(_has_bad_float, value.values()))
    return isinstance(value, list) and any(map(_has_bad_float, value))
