"""How much work a schema can make: bounded before there are any params, and again before what is wrong with some is listed.

`anyOf`, `allOf` and `$ref` multiply: twenty definitions that each name the next one twice make a million of one value. A validator
remembers what it found of a value only where schemas refer to each other in a circle; without one what is written is what it does,
again and again. Errors it lists without remembering anything, circle or not.
"""

from collections.abc import Iterator
from typing import Final
from urllib.parse import unquote, urldefrag, urljoin

WORK_MAX: Final = 100_000  # schemas that one value is held against, at 30 ns each
LINKS_MAX: Final = 64  # of them within each other: a validator has a stack, and its end is the end of the process
STEPS_MAX: Final = 1_000_000  # of a close look, at 1 µs each: a schema that is too large for it is too large
LISTED_MAX: Final = 10_000  # schemas that params are held against to list what is wrong with them, at 20 µs each
_LEVELS_MAX: Final = 64  # of params

_HERE: Final = ("not", "if", "then", "else", "propertyNames")  # of the value itself, as are those in
_HERE_LISTS: Final = ("allOf", "anyOf", "oneOf")
_HERE_MAPS: Final = ("dependentSchemas", "dependencies")
_BELOW: Final = ("additionalProperties", "items", "contains", "unevaluatedItems", "unevaluatedProperties")
_LOOKS_AGAIN: Final = ("unevaluatedItems", "unevaluatedProperties")  # at all beside it, to know what that has evaluated


class TooMuch(ValueError):
    """The schema could keep a validator busy for ever, or take its stack. The message is a sentence without its end."""


class _Node:
    """One schema. `circular` are those of `refs` from which a way leads back to it."""

    __slots__ = ("below", "circular", "here", "named", "refs", "total")

    def __init__(self) -> None:
        self.here: list[_Node] = []  # schemas for the same value, as often as they are asked
        self.refs: set[_Node] = set()  # those of them that stand elsewhere
        self.circular: set[_Node] = set()
        self.named: dict[str, list[_Node]] = {}
        self.below: list[_Node] = []  # for members and elements that may be any
        self.total = 1  # schemas in all, if nothing were circular

    def open(self) -> "Iterator[_Node]":
        """Those that lead in no circle."""
        yield from (node for node in self.here if node not in self.circular)
        yield from self.beneath()

    def beneath(self) -> "Iterator[_Node]":
        for nodes in self.named.values():
            yield from nodes
        yield from self.below


class Effort:
    """What a schema may cost. Raises TooMuch for one that nobody should hold a value against."""

    __slots__ = ("_closures", "_root")

    def __init__(self, schema: dict[str, object]) -> None:
        self._closures: dict[_Node, dict[_Node, int] | None] = {}
        nodes = _Reader(schema).nodes
        self._root = nodes[0]
        _find_circles(nodes)
        _measure_links(nodes)
        order = _order(nodes)
        for node in order:
            node.total = min(1 + sum(other.total for other in node.open()), WORK_MAX + 1)
        heads = {self._root, *(other for node in nodes for other in node.circular)}
        if sum(node.total for node in heads) > WORK_MAX and _most(order, heads) > WORK_MAX:
            raise TooMuch(
                f"its allOf, anyOf, oneOf and $ref multiply: one value would be held against more than {WORK_MAX:,} schemas"
            )

    def may_list(self, value: object) -> bool:
        """Whether all that may be wrong with the value can be listed in bearable time."""
        left = LISTED_MAX
        open_: list[tuple[object, dict[_Node, int]]] = [(value, {self._root: 1})]
        while open_:
            item, asked = open_.pop()
            here: dict[_Node, int] = {}
            for node, count in asked.items():
                closure = self._closure(node)
                if closure is None:
                    return False
                _add(here, closure, count)
            left -= sum(here.values())
            if left < 0:
                return False
            pairs: Iterator[tuple[str, object]] = iter(())
            if isinstance(item, dict):
                pairs = iter(item.items())
            elif isinstance(item, list):
                pairs = (("", each) for each in item)
            for name, each in pairs:
                below: dict[_Node, int] = {}
                for node, count in here.items():
                    for other in (*node.named.get(name, ()), *node.below):
                        below[other] = below.get(other, 0) + count
                if below:
                    open_.append((each, below))
        return True

    def _closure(self, node: _Node) -> dict[_Node, int] | None:
        """All schemas that this one holds the same value against, itself included, and how often; None for too many."""
        if node not in self._closures:
            self._closures[node] = None  # who comes back here goes in a circle, for ever
            found: dict[_Node, int] | None = {node: 1}
            for other in node.here:
                closure = self._closure(other)
                if closure is None or found is None:
                    found = None
                    break
                _add(found, closure, 1)
            self._closures[node] = found if found is None or sum(found.values()) <= LISTED_MAX else None
        return self._closures[node]


def _add(counts: dict[_Node, int], more: dict[_Node, int], times: int) -> None:
    for node, count in more.items():
        counts[node] = counts.get(node, 0) + count * times


class _Reader:
    """Makes nodes of a schema: those that can be reached from it, itself first."""

    def __init__(self, schema: dict[str, object]) -> None:
        self._root = schema
        self._bases: dict[int, str] = {}  # of all objects, by identity
        self._resources: dict[str, object] = {}
        self._anchors: dict[tuple[str, str], dict[str, object]] = {}
        self._dynamic: dict[str, list[dict[str, object]]] = {}
        self._made: dict[int, _Node] = {}
        self._open: list[dict[str, object]] = []
        self.nodes: list[_Node] = []
        self._find_names()
        self._node(schema)
        while self._open:
            self._read(self._open.pop())

    def _find_names(self) -> None:
        left: list[tuple[object, str]] = [(self._root, "")]
        self._resources[""] = self._root
        while left:
            value, base = left.pop()
            if isinstance(value, list):
                left += ((item, base) for item in value)
            elif isinstance(value, dict):
                name = value.get("$id")
                if isinstance(name, str):
                    base = _joined(base, name)[0]
                    self._resources[base] = value
                self._bases[id(value)] = base
                for keyword in ("$anchor", "$dynamicAnchor"):
                    anchor = value.get(keyword)
                    if isinstance(anchor, str):
                        self._anchors[base, anchor] = value
                        if keyword == "$dynamicAnchor":
                            self._dynamic.setdefault(anchor, []).append(value)
                left += ((item, base) for item in value.values())

    def _node(self, schema: dict[str, object]) -> _Node:
        node = self._made.get(id(schema))
        if node is None:
            node = self._made[id(schema)] = _Node()
            self.nodes.append(node)
            self._open.append(schema)
        return node

    def _nodes(self, schemas: object) -> list[_Node]:
        """The nodes of a schema, or of all in a list or among an object's values."""
        return [self._node(each) for each in schemas if isinstance(each, dict)] if isinstance(schemas, list) else []

    def _read(self, schema: dict[str, object]) -> None:
        node = self._made[id(schema)]
        node.here += self._nodes([schema.get(word) for word in _HERE])
        for word in _HERE_LISTS:
            node.here += self._nodes(schema.get(word))
        for word in _HERE_MAPS:
            node.here += self._nodes(_values(schema.get(word)))
        for word in ("$ref", "$dynamicRef"):
            ref = schema.get(word)
            if isinstance(ref, str):
                targets = self._nodes(self._targets(schema, word, ref))
                node.here += targets
                node.refs.update(targets)
        if any(word in schema for word in _LOOKS_AGAIN):
            node.here *= 3
        node.below += self._nodes([schema.get(word) for word in _BELOW])
        node.below += self._nodes(schema.get("prefixItems"))
        node.below += self._nodes(_values(schema.get("patternProperties")))
        properties = schema.get("properties")
        if isinstance(properties, dict):
            node.named = {name: self._nodes([each]) for name, each in properties.items() if isinstance(each, dict)}

    def _targets(self, schema: dict[str, object], word: str, ref: str) -> list[object]:
        """What a reference leads to; nothing for the schema of schemas, which is tame."""
        base, fragment = _joined(self._bases[id(schema)], ref)
        if fragment and not fragment.startswith("/"):
            named = self._anchors.get((base, fragment))
            others = self._dynamic.get(fragment, []) if word == "$dynamicRef" else []
            return [*others] or [named]
        found = self._resources.get(base)
        for step in fragment.split("/")[1:]:
            step = unquote(step).replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and step.isdecimal() and int(step) < len(found):
                found = found[int(step)]
            else:
                found = found.get(step) if isinstance(found, dict) else None
        return [found]


def _values(schemas: object) -> list[object]:
    return list(schemas.values()) if isinstance(schemas, dict) else []


def _joined(base: str, ref: str) -> tuple[str, str]:
    """The address that a reference means, and its fragment."""
    if ref.startswith("#"):
        return base, ref[1:]
    try:
        address = urldefrag(urljoin(base, ref))
    except ValueError:
        return ref, ""
    return address.url, address.fragment


def _find_circles(nodes: list[_Node]) -> None:
    """Fill in `circular`: what is found to belong together (Tarjan), and is not just written within each other."""
    index: dict[_Node, int] = {}
    low: dict[_Node, int] = {}
    group: dict[_Node, int] = {}
    stack: list[_Node] = []
    for start in nodes[:1]:  # all others can be reached from it
        index[start] = low[start] = 0
        stack.append(start)
        path = [(start, iter([*start.here, *start.beneath()]))]
        while path:
            node, others = path[-1]
            other = next(others, None)
            if other is None:
                path.pop()
                if path:
                    low[path[-1][0]] = min(low[path[-1][0]], low[node])
                if low[node] == index[node]:
                    while True:
                        member = stack.pop()
                        group[member] = index[node]
                        if member is node:
                            break
            elif other not in index:
                index[other] = low[other] = len(index)
                stack.append(other)
                path.append((other, iter([*other.here, *other.beneath()])))
            elif other not in group:
                low[node] = min(low[node], index[other])
    for node in nodes:
        node.circular = {other for other in node.refs if group[other] == group[node]}


def _measure_links(nodes: list[_Node]) -> None:
    """Raise TooMuch where schemas for one value stand too deep within each other."""
    heights: dict[_Node, int] = {}
    for start in nodes:
        if start in heights:
            continue
        heights[start] = 0  # what is under way: a circle ends there
        path = [(start, iter(start.here))]
        while path:
            node, others = path[-1]
            other = next(others, None)
            if other is None:
                path.pop()
                heights[node] = 1 + max((heights[each] for each in node.here), default=0)
            elif other not in heights:
                heights[other] = 0
                path.append((other, iter(other.here)))
            if len(path) > LINKS_MAX or heights[node] > LINKS_MAX:
                raise TooMuch(
                    f"its allOf, anyOf, oneOf and $ref stand more than {LINKS_MAX} deep within each other for one value"
                )


def _order(nodes: list[_Node]) -> list[_Node]:
    """Every node after those that it leads to, circles left out."""
    order: dict[_Node, None] = {}
    met = set(nodes[:1])
    path = [(nodes[0], nodes[0].open())]
    for node in nodes:
        if node not in met:
            met.add(node)
            path.append((node, node.open()))
        while path:
            here, others = path[-1]
            other = next(others, None)
            if other is None:
                path.pop()
                order[here] = None
            elif other not in met:
                met.add(other)
                path.append((other, other.open()))
    return list(order)


def _most(order: list[_Node], heads: set[_Node]) -> int:
    """How many schemas one value is held against, at most: a value within params, however deep, under one name at a time.

    Raises TooMuch where nobody can tell in bearable time.
    """
    steps = 0
    counts: dict[_Node, int] = {}
    for node in order:
        counts[node] = min(1 + sum(counts[other] for other in node.here if other not in node.circular), WORK_MAX + 1)
    most = {head: counts[head] for head in heads}
    for _ in range(_LEVELS_MAX):
        spreads: dict[_Node, tuple[dict[str, int], int]] = {}
        for node in order:
            named = {name: count for name, others in node.named.items() if (count := sum(counts[other] for other in others))}
            below = sum(counts[other] for other in node.below)
            for other in node.here:
                if other not in node.circular:
                    theirs, more = spreads[other]
                    below += more
                    for name, count in theirs.items():
                        named[name] = named.get(name, 0) + count
            spreads[node] = named, below
            steps += 1 + len(named) + len(node.here)
            if steps > STEPS_MAX:
                raise TooMuch("its allOf, anyOf, oneOf and $ref multiply, and it is too large to tell how far")
        counts = {node: min(max(named.values(), default=0) + below, WORK_MAX + 1) for node, (named, below) in spreads.items()}
        if not any(counts.values()):
            break
        for head in heads:
            most[head] = max(most[head], counts[head])
    return sum(most.values())
