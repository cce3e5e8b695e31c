"""From TOML tables to frozen Structs, collecting every mistake on the way instead of stopping at the first."""

import difflib
import math
import re
import types
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from homing.forms import CURVE_KEY, HASHES, Form, Unreadable, not_json
from homing.references import ReferenceBroken, Referred, mask, resolve
from homing.sources import KeyPath, Problem, Source, show_path

Section = TypeVar("Section", bound=msgspec.Struct)


_KEYS_TOLD_MAX = 6  # of a table where something else was found
_USERINFO = re.compile(r"://[^/?#\s]*@")
_PLAIN: dict[type, tuple[type, ...]] = {int: (int,), float: (int, float), str: (str,), bool: (bool,)}


class Wrong(msgspec.Struct, frozen=True):
    """Stands for a value that could not be had; why has been reported."""


class Absent(msgspec.Struct, frozen=True):
    """Stands for a value that is not for this process, and that it cannot get at: as if its key were not there."""


WRONG: Final = Wrong()
ABSENT: Final = Absent()


class Field(msgspec.Struct, frozen=True):
    """One key of a section: its type without the annotations, and what these say."""

    key: str  # in TOML
    name: str  # in the Struct
    hint: object
    reason: str
    required: bool
    default: object


class Decoder:
    """Decodes tables and collects problems. `origin` says of a key's path where it really stands: which file, and under which path.

    `homes` are keys that exist in one section only, and that section: for keys in the wrong place. `elsewhere` says of a path that
    another process reads what is there: a reference that leads nowhere, or a file that cannot be read, is no mistake then.
    `tables` are those at the top of a file, and their headers.
    `mistaken` are the paths of all mistakes, a method's as if nothing stood in its provider's `defaults`.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        origin: Callable[[KeyPath], tuple[Source, KeyPath]],
        homes: Mapping[str, str],
        elsewhere: Callable[[KeyPath], bool] = lambda path: False,
        tables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.tables = tables
        self.elsewhere = elsewhere
        self.environ = environ
        self.origin = origin
        self.homes = homes
        self.problems: dict[Problem, None] = {}
        self.mistaken: set[KeyPath] = set()
        self.values_referred: set[str] = set()

    def report(self, path: KeyPath, message: str, *, warning: bool = False) -> None:
        """Adds a problem, once."""
        if not warning:
            self.mistaken.add(path)
        source, path = self.origin(path)
        self.report_in(source, path, message, warning=warning)

    def report_in(self, source: Source, path: KeyPath, message: str, *, warning: bool = False) -> None:
        """Adds a problem at a path of this very file, once."""
        message = mask(message, self.values_referred)  # names and addresses may be references, too
        self.problems[Problem(source.name, show_path(path), message, warning, source.line_of(path))] = None

    def section(self, kind: type[Section], table: object, path: KeyPath, *, partial: bool = False) -> Section | Wrong:
        """`table` as a `kind`. `partial` looks at what is there and does not ask for what is missing; its result is of no use."""
        if not isinstance(table, dict):
            keys_here = f"; its keys are {', '.join(fields_of(kind))}" if len(fields_of(kind)) <= _KEYS_TOLD_MAX else ""
            self.report(path, f"found {show(table)}, expected a table{keys_here}")
            return WRONG
        keys = fields_of(kind)
        values: dict[str, object] = {}
        right = True
        for key, raw in table.items():
            if key not in keys:
                self.unknown(key, raw, keys, path)
                continue
            value = self.value(keys[key].hint, raw, (*path, key), partial=partial)
            if isinstance(value, Absent):
                if keys[key].required:
                    values[keys[key].name] = ""  # of those with another form than text, each has its own stand-in
            elif not isinstance(value, Wrong):
                values[keys[key].name] = value
            else:
                right = False
                if keys[key].required:
                    values[keys[key].name] = _stand_in(keys[key].hint)
        for key, field in keys.items():
            if field.required and key not in table and not partial:
                self.report((*path, key), f"it is missing; expected {expected(field.hint)}")
                values[field.name] = _stand_in(field.hint)
        if partial or WRONG in values.values():
            return WRONG
        try:
            return kind(**values)
        except ValueError as error:
            if right:  # a default that stands in for a mistake goes with nothing
                self.report(path, str(error))
            return WRONG

    def value(self, hint: object, raw: object, path: KeyPath, *, partial: bool = False) -> object:
        """`raw` as `hint` asks, or WRONG once the problem is reported."""
        form, bounds, base = unwrap(hint)
        if isinstance(raw, str) and not (form is not None and form.literal):
            try:
                raw = self._resolve(raw, path)
            except ReferenceBroken as error:
                if self.elsewhere(path):
                    return ABSENT if form is None or form.stand_in is None else form.stand_in
                self.report(path, str(error))
                return WRONG
        if form is not None:
            return self._formed(hint, form, bounds, raw, path)
        if get_origin(base) in (Union, types.UnionType):
            kinds = [cast(type[msgspec.Struct], kind) for kind in get_args(base) if kind is not type(None)]
            return self._one_of(kinds, raw, path, partial)
        if get_origin(base) is Literal:
            return self._word([str(word) for word in get_args(base)], raw, path)
        if get_origin(base) in (list, tuple):
            return self._list(hint, get_args(base)[0], raw, path, partial)
        if get_origin(base) is dict:
            key_hint, element = get_args(base)
            return self._named(hint, key_hint, element, raw, path, partial)
        if isinstance(base, type) and issubclass(base, msgspec.Struct):
            return self.section(base, raw, path, partial=partial)
        if base is object:
            return self._json(raw, path)
        return self._plain(hint, base, bounds, raw, path)

    def _resolve(self, text: str, path: KeyPath) -> str:
        value = resolve(text, self.folder(path), self.environ)
        if isinstance(value, Referred):
            self.values_referred.add(str.__str__(value))
        return value

    def folder(self, path: KeyPath) -> Path:
        """The folder that relative paths in this value count from."""
        return self.origin(path)[0].folder

    def _formed(self, hint: object, form: Form, bounds: msgspec.Meta | None, raw: object, path: KeyPath) -> object:
        if isinstance(raw, dict) and is_include(raw.get("include")):  # a schema is often the last table of a file
            self.misplaced_include(path)
            return WRONG
        try:
            value = form.parse(raw, self.folder(path))
        except ValueError as error:
            if isinstance(error, Unreadable) and self.elsewhere(path):
                return ABSENT if form.stand_in is None else form.stand_in
            found = kind_of(raw) if form.secret else show(raw)
            detail = f": {error}" if str(error) else ""
            self.report(path, f"found {found}, expected {form.expected}{detail}")
            return WRONG
        if isinstance(value, int | float) and not _within(value, bounds):
            self.report(path, f"found {show(raw)}, expected {expected(hint)}")
            return WRONG
        return value

    def _plain(self, hint: object, base: object, bounds: msgspec.Meta | None, raw: object, path: KeyPath) -> object:
        fits = isinstance(raw, _PLAIN[cast(type, base)])
        if base is not bool and isinstance(raw, bool):
            fits = False
        if not fits or (isinstance(raw, float) and not math.isfinite(raw)):
            detail = ""
            if isinstance(raw, str) and base is not str and not isinstance(raw, Referred):
                detail = _without_quotes(raw, base)
            self.report(path, f"found {show(raw)}, expected {expected(hint)}{detail}")
            return WRONG
        if isinstance(raw, int | float) and not _within(raw, bounds):
            self.report(path, f"found {show(raw)}, expected {expected(hint)}")
            return WRONG
        return float(cast(float, raw)) if base is float else raw

    def _word(self, words: list[str], raw: object, path: KeyPath) -> object:
        if raw in words:
            return str(raw)
        close = difflib.get_close_matches(raw.lower(), words, 1) if isinstance(raw, str) else []
        meant = f'; did you mean "{close[0]}"?' if close else ""
        self.report(path, f"found {show(raw)}, expected {_either([show(word) for word in words])}{meant}")
        return WRONG

    def _list(self, hint: object, element: object, raw: object, path: KeyPath, partial: bool) -> object:
        if not isinstance(raw, list):
            detail = f"; write [{show(raw)}]" if isinstance(raw, str) and not isinstance(raw, Referred) else ""
            if is_section(element):
                detail = f"; write [[{show_path(path)}]] over it" if isinstance(raw, dict) else ""
            self.report(path, f"found {show(raw)}, expected {expected(hint)}{detail}")
            return WRONG
        values = [self.value(element, one, (*path, index), partial=partial) for index, one in enumerate(raw)]
        return WRONG if WRONG in values else tuple(value for value in values if value is not ABSENT)

    def _named(self, hint: object, key_hint: object, element: object, raw: object, path: KeyPath, partial: bool) -> object:
        if not isinstance(raw, dict):
            self.report(path, f"found {show(raw)}, expected {expected(hint)}")
            return WRONG
        values: dict[str, object] = {}
        for key, one in raw.items():
            if key == "include" and is_include(one):
                self.misplaced_include(path)
            elif not self.named_wrongly(unwrap(key_hint)[0], (*path, key)):
                values[key] = self.value(element, one, (*path, key), partial=partial)
        return {key: value for key, value in values.items() if not isinstance(value, Wrong | Absent)}

    def named_wrongly(self, form: Form | None, path: KeyPath) -> bool:
        """Whether the last key of `path` is no name of this form; reports it."""
        if form is None:
            return False
        try:
            form.parse(path[-1], Path())
        except ValueError as error:
            detail = f": {error}" if str(error) else ""
            self.report(path, f"found the key {show(path[-1])}, expected {form.expected}{detail}")
            return True
        return False

    def _one_of(self, kinds: list[type[msgspec.Struct]], raw: object, path: KeyPath, partial: bool) -> object:
        """One of several sections, told apart by their tag."""
        structs = {str(kind.__struct_config__.tag): kind for kind in kinds}
        field = str(kinds[0].__struct_config__.tag_field)
        if not isinstance(raw, dict):
            self.report(path, f'found {kind_of(raw)}, expected a table such as {{ {field} = "{next(iter(structs))}", … }}')
            return WRONG
        if field not in raw:
            self.report((*path, field), f"it is missing; expected {_either([show(tag) for tag in structs])}")
            return WRONG
        tag = self._word(list(structs), raw[field], (*path, field))
        if isinstance(tag, Wrong):
            return WRONG
        rest = {key: value for key, value in raw.items() if key != field}
        return self.section(structs[cast(str, tag)], rest, path, partial=partial)

    def _json(self, raw: object, path: KeyPath) -> object:
        """Any value that JSON can say, with the references in it resolved."""
        if isinstance(raw, dict):
            if is_include(raw.get("include")):
                self.misplaced_include(path)
            values = {key: self.value(object, one, (*path, key)) for key, one in raw.items()}
            return {key: value for key, value in values.items() if not isinstance(value, Wrong | Absent)}
        if isinstance(raw, list):
            elements = [self.value(object, one, (*path, index)) for index, one in enumerate(raw)]
            return WRONG if WRONG in elements else [element for element in elements if element is not ABSENT]
        if why := not_json(raw):
            self.report(path, f"found {show(raw)}: {why}")
            return WRONG
        return raw

    def misplaced_include(self, path: KeyPath) -> None:
        """Reports an `include` that stands below a table's header."""
        message = f"include must stand before the first table; after [{show_path(path)}] it became a key of that table"
        self.report((*path, "include"), message)

    def unknown(self, key: str, raw: object, keys: Iterable[str], path: KeyPath) -> None:
        """Reports a key that nobody reads."""
        if key == "include" and path:
            self.misplaced_include(path)
        elif isinstance(raw, dict) and key in self.tables:
            self.report((*path, key), f"this table stands by itself: write {self.tables[key]}")
        else:
            self.report((*path, key), self.unknown_key(key, keys))

    def unknown_key(self, key: str, keys: Iterable[str]) -> str:
        """The message about a key that is none of `keys`, with what may have been meant."""
        keys = list(keys)
        spelt = "_".join(key.replace("-", "_").lower().split())
        close = difflib.get_close_matches(spelt, keys, 1, 0.8 if key in self.homes else 0.6)
        if close:
            return f'this key is unknown; did you mean "{close[0]}"?'
        if key in self.homes:
            return f"this key is unknown here; it belongs into {self.homes[key]}"
        return f"this key is unknown; the keys here are {', '.join(keys)}"


# What a Struct's annotations say


@cache
def fields_of(kind: type[msgspec.Struct]) -> dict[str, Field]:
    """The keys of a section, as TOML spells them, in the order in which the Struct declares them."""
    hints = get_type_hints(kind, include_extras=True)
    fields: dict[str, Field] = {}
    for info in msgspec.structs.fields(kind):
        hint = hints[info.name]
        _, meta, _ = unwrap(hint)
        default = info.default
        if info.default_factory is not msgspec.NODEFAULT:
            default = cast(Callable[[], object], info.default_factory)()
        reason = (meta.description or "") if meta else ""
        fields[info.encode_name] = Field(info.encode_name, info.name, hint, reason, info.required, default)
    return fields


def unwrap(hint: object) -> tuple[Form | None, msgspec.Meta | None, object]:
    """The form, the bounds and reason, and the type itself, of an annotation. `Annotated[X | None, …]` is X's."""
    form: Form | None = None
    meta: msgspec.Meta | None = None
    while True:
        if get_origin(hint) is Annotated:
            hint, *notes = get_args(hint)
            for note in notes:
                if isinstance(note, Form):
                    form = form or note
                elif isinstance(note, msgspec.Meta):
                    meta = meta or note
            continue
        if get_origin(hint) in (Union, types.UnionType):
            inner = [one for one in get_args(hint) if one is not type(None)]
            if len(inner) == 1:
                hint = inner[0]
                continue
        return form, meta, hint


def is_section(hint: object) -> bool:
    """Whether a value of this type is a table of its own with known keys."""
    form, _, base = unwrap(hint)
    return form is None and isinstance(base, type) and issubclass(base, msgspec.Struct)


def expected(hint: object) -> str:
    """What a value of this type looks like, for a problem."""
    form, bounds, base = unwrap(hint)
    if form is not None:
        return form.expected + _bounds_text(form, bounds)
    origin = get_origin(base)
    if origin in (list, tuple):
        element = get_args(base)[0]
        if is_section(element):
            return "a list of tables"
        return "a list, each of it " + expected(element)
    if origin is dict:
        return "a table"
    if origin is Literal:
        return _either([show(word) for word in get_args(base)])
    if origin in (Union, types.UnionType) or is_section(base):
        return "a table"
    names: dict[object, str] = {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "a string",
        object: "a value",
    }
    return names[base] + _bounds_text(None, bounds)


def _stand_in(hint: object) -> object:
    """What stands in for a wrong value, so that what stands beside it is looked at too; WRONG where nothing does."""
    form, _, base = unwrap(hint)
    if form is not None:
        compared = form in (CURVE_KEY, HASHES)  # with each other: nobody is told that two wrong ones are the same
        return WRONG if compared or form.stand_in is None else form.stand_in
    if get_origin(base) is Literal:
        return get_args(base)[0]
    return "" if base is str else WRONG


def _bounds_text(form: Form | None, bounds: msgspec.Meta | None) -> str:
    """The bounds that are not plain to see: that a duration or a size is not below 0 goes without saying."""
    if bounds is None:
        return ""
    write = form.write if form is not None else str
    if bounds.ge is not None and bounds.le is not None:
        return f" from {write(bounds.ge)} to {write(bounds.le)}"
    if bounds.ge is not None:
        return f" from {write(bounds.ge)} up" if form is None or bounds.ge > 0 else ""
    above = f" above {write(bounds.gt)}" if bounds.gt is not None else ""
    return above + (f" up to {write(bounds.le)}" if bounds.le is not None else "")


def _within(value: float, bounds: msgspec.Meta | None) -> bool:
    return bounds is None or (
        (bounds.gt is None or value > bounds.gt)
        and (bounds.ge is None or value >= bounds.ge)
        and (bounds.le is None or value <= bounds.le)
    )


# Values as problems show them


def show(raw: object) -> str:
    """A value as it may be shown: short, on one line, and never what a reference led to."""
    if isinstance(raw, Referred):
        return f"the value of {raw.reference}"
    if isinstance(raw, str):
        raw = _USERINFO.sub("://***@", raw)
        return msgspec.json.encode(raw if len(raw) <= 60 else raw[:57] + "…").decode()
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, int | float):
        return str(raw)
    return kind_of(raw)


def kind_of(raw: object) -> str:
    """What sort of value it is, in TOML's words, and nothing of the value itself."""
    if isinstance(raw, Referred):
        return f"the value of {raw.reference}"
    for kind, name in (
        (bool, "true or false"),
        (str, "a string"),
        (int, "a number"),
        (float, "a number"),
        (dict, "a table"),
        (list, "a list"),
    ):
        if isinstance(raw, kind):
            return name
    return "a date or time"


def _either(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _without_quotes(raw: str, base: object) -> str:
    if base is bool and raw in ("true", "false"):
        return f"; write {raw} without the quotes"
    if base in (int, float) and raw.replace(".", "", 1).isdigit() and raw.isascii():
        return f"; write {raw} without the quotes"
    return ""


def is_include(raw: object) -> bool:
    """Whether this value of a key named `include`, in a table of free content, was meant for the top of the file."""
    return isinstance(raw, list) and bool(raw) and all(isinstance(one, str) and one.endswith(".toml") for one in raw)
