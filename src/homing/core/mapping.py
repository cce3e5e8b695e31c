"""Values by JMESPath: expressions compiled once, with every trap found before the first call.

    expression, problems = compile_expression("params.items[?price > `10`].name", REQUEST)
    expression.search({"params": {...}, "call": {...}})

The standard functions are the library's, but for those that would change a number without saying so.
"""

import re
import warnings
from collections.abc import Sequence
from decimal import Decimal
from itertools import pairwise
from math import isfinite
from typing import TYPE_CHECKING

import jmespath.exceptions
import jmespath.functions
import jmespath.lexer
import jmespath.visitor
import msgspec

from homing.core.jsonrpc import decode_value, encode_value
from homing.core.scalars import inexact
from homing.core.traps import HEADERS, REQUEST, RESPONSE, Analysis, Arity, Node, Place

if TYPE_CHECKING:
    from jmespath.visitor import _TreeNode as _Tree

__all__ = ["HEADERS", "REQUEST", "RESPONSE", "EvaluationError", "Expression", "compile_expression", "is_false"]

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")  # RFC 8259 section 6


class EvaluationError(Exception):
    """An expression could not be evaluated on one value. The message is the library's."""


class _Functions(jmespath.functions.Functions):
    """The standard functions, exact: no number is cut, rounded or made infinite on the way."""

    @jmespath.functions.signature({"types": []})
    def _func_to_number(self, arg: object) -> object:
        if isinstance(arg, str):
            # Python's own float() would take "nan", "1_000" and " 5", and round the rest.
            return decode_value(arg.encode()) if _NUMBER.fullmatch(arg) else None
        return arg if isinstance(arg, int | float | Decimal) and not isinstance(arg, bool) else None

    @jmespath.functions.signature({"types": []})
    def _func_to_string(self, arg: object) -> str:
        if isinstance(arg, str):
            return arg
        if inexact(arg) is not None:
            raise ValueError("to_string() of a number that no double can hold")
        return encode_value(arg).decode()

    @jmespath.functions.signature({"types": ["array-number"]})
    def _func_sum(self, arg: list[float]) -> float:
        return _finite(sum(arg))

    @jmespath.functions.signature({"types": ["array-number"]})
    def _func_avg(self, arg: list[float]) -> float | None:
        return _finite(sum(arg) / len(arg)) if arg else None

    @jmespath.functions.signature({"types": []})
    def _func_type(self, arg: object) -> str:
        if arg is None:
            return "null"
        if isinstance(arg, bool):
            return "boolean"
        if isinstance(arg, int | float | Decimal):
            return "number"
        if isinstance(arg, str):
            return "string"
        return "array" if isinstance(arg, list) else "object"


def _finite(value: float) -> float:
    if not isfinite(value):
        raise ValueError("the sum is larger than any number")
    return value


def _arities() -> dict[str, Arity]:
    table: dict[str, Arity] = {}
    for name, entry in _Functions.FUNCTION_TABLE.items():
        arguments = entry["signature"]
        table[name] = (tuple("expref" in item["types"] for item in arguments), bool(arguments[-1].get("variadic")))
    return table


_ARITIES = _arities()
_OPTIONS = jmespath.visitor.Options(custom_functions=_Functions())


class Expression:
    """A compiled expression: what it uses of its root, and its value there.

    `roots` are the names it begins with, `params` the members of the params that it uses (None: all), `path` the names and indices
    if it is nothing but those. `doubts` are what is legal but unwise in it.
    """

    __slots__ = ("_by_status", "_gate", "_interpreter", "_tree", "doubts", "params", "path", "roots", "text", "uses_key")

    def __init__(
        self, text: str, tree: "_Tree", path: tuple[str | int, ...] | None, found: Analysis, gate: "_Tree | None"
    ) -> None:
        self.text = text
        self.path = path
        self.roots = frozenset(found.roots)
        self.params = None if found.params is None else frozenset(found.params)
        self.uses_key = found.uses_key
        self.doubts = tuple(dict.fromkeys(found.doubts))
        self._tree = tree
        self._gate = gate
        self._by_status: dict[int, bool] = {}
        self._interpreter = jmespath.visitor.TreeInterpreter(_OPTIONS)

    def search(self, root: dict[str, object]) -> object:
        """Return the value, None where there is none. Raises EvaluationError."""
        if self.path is None:
            try:
                value: object = self._interpreter.visit(self._tree, root)
            except Exception as error:  # besides its own errors the library raises TypeError and more, by the value it meets
                raise EvaluationError(f"{_one_line(self.text)}: {_one_line(str(error))}") from error
            return value
        value = root  # the short way for plain paths, twenty times as fast
        for step in self.path:
            if type(step) is str:
                value = value.get(step) if isinstance(value, dict) else None
            elif isinstance(value, list) and -len(value) <= step < len(value):  # type: ignore[operator]
                value = value[step]  # type: ignore[index]
            else:
                return None
        return value

    def may_hold(self, status: int) -> bool:
        """Whether the expression can be true of an answer with this status: its first condition, remembered, if that asks for no more."""
        if self._gate is None:
            return True
        held = self._by_status.get(status)
        if held is None:
            try:
                held = not is_false(self._interpreter.visit(self._gate, {"status": status}))
            except Exception:  # whatever it is, `search` will meet it again and say so
                held = True
            self._by_status[status] = held
        return held


def is_false(value: object) -> bool:
    """What JMESPath holds to be false: null, false, and whatever is empty. Zero is true."""
    return value is None or value is False or value in ("", [], {})


def compile_expression(text: str, place: Place, schema: object = None) -> tuple[Expression | None, list[str]]:
    """Compile an expression for a place, where `schema` is that of the params. Without one the list says all that is wrong."""
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", PendingDeprecationWarning)
            tokens = list(jmespath.lexer.Lexer().tokenize(text))
            tree = jmespath.compile(text).parsed
            node = msgspec.convert(tree, Node)
    except jmespath.exceptions.JMESPathError as error:
        return None, [_why(text, error, place)]
    except RecursionError:
        return None, [f"{text[:60]}… is nested too deeply"]
    analysis = Analysis(place, _ARITIES, schema)
    if warned:
        analysis.problems.append("what stands in backticks must be JSON: a text is written in single quotes, 'text'")
    analysis.problems += _quoted_names(tokens)
    analysis.run(node)
    if analysis.problems:
        return None, analysis.problems
    return Expression(text, tree, _plain_path(node), analysis, _status_gate(node, tree, place)), []


def _status_gate(node: Node, tree: "_Tree", place: Place) -> "_Tree | None":
    """Return the first condition of an expression, if it looks at nothing but the status."""
    while node.type == "and_expression":
        first = node.children[0]
        assert isinstance(first, Node)
        node, tree = first, tree["children"][0]
    condition = Analysis(place, _ARITIES, None)
    condition.run(node)
    return tree if condition.roots == {"status"} else None


def _quoted_names(tokens: "Sequence[jmespath.lexer._LexerTokenizeResult]") -> list[str]:
    """Find "text" where 'text' was meant: after a dot, and as a key before a colon, double quotes are what they should be."""
    problems: list[str] = []
    before = ""
    for token, after in pairwise(tokens):
        if token["type"] == "quoted_identifier" and before != "dot" and after["type"] != "colon":
            name = token["value"]
            problems.append(
                f'"{name}" in double quotes is the name of a member: a text is written \'{name}\', a member @."{name}"'
            )
        before = token["type"]
    return problems


def _plain_path(node: Node) -> tuple[str | int, ...] | None:
    """Return the names and indices of an expression that has nothing else."""
    if node.type in {"field", "index"}:
        assert isinstance(node.value, str | int)
        return (node.value,)
    if node.type not in {"subexpression", "index_expression"}:
        return None
    path: tuple[str | int, ...] = ()
    for child in node.children:
        below = _plain_path(child) if isinstance(child, Node) else None
        if below is None:
            return None
        path += below
    return path


_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`|\"(?:[^\"\\]|\\.)*\"")
_HINTS = (
    (re.compile(r"^\s*="), "leave out the = it begins with"),
    (re.compile(r"(?<![=!<>])=(?!=)|==="), "equality is written =="),
    (re.compile(r"\b(?:and|or|not)\b"), "and, or, not are written &&, ||, !"),
    (re.compile(r"\bin\b"), "membership is written contains(list, value)"),
    (re.compile(r"\$"), "there is no $: an expression begins with {names}"),
    (re.compile(r"\?(?!\w*.*\])"), "a choice is written condition && value || other"),
    (re.compile(r"(?:^|[=<>(,&|])\s*-?\d"), "numbers are written in backticks, as in status == `429`"),
    (re.compile(r"\w-\w|\[Q"), 'a name of other characters is written in double quotes after a dot, as in body."a-b"'),
    (re.compile(r"[-+/%]"), "there is no arithmetic in JMESPath"),
)


def _why(text: str, error: ValueError, place: Place) -> str:
    """Say what the library found wrong, in one line, and what to write instead where that can be told."""
    if not text.strip():
        return "an expression is missing"
    bare = _QUOTED.sub("Q", text)
    begun = "a text that begins with = is written ==…" if "params" in place.names else ""
    hint = next((hint for pattern, hint in _HINTS if pattern.search(bare)), begun)
    reason = str(getattr(error, "message", "") or getattr(error, "msg", "") or error)
    column = int(getattr(error, "lex_position", 0)) + 1
    said = f"{_one_line(text)} is no JMESPath: {_one_line(reason)} at column {column}"
    return f"{said}: {hint.replace('{names}', ' or '.join(place.names))}" if hint else said


def _one_line(text: str) -> str:
    return " ".join(text.split())[:200]
