"""The pages of the reference that are made from the code: what stands in the tree of settings and in the table of errors, once."""

from collections.abc import Callable, Iterator
from typing import Literal, get_args, get_origin

import click
import msgspec

from homing import forms, settings
from homing.decoding import Field, fields_of, is_section, unwrap
from homing.errors import TABLE

CONFIGURATION_INTRO = """\
# Configuration

<!-- Made from the code: `homing reference configuration`. Edit the reasons in src/homing/settings.py instead. -->

One TOML file, `homing.toml`, or what `--config` or `HOMING_CONFIG` names. `homing check` finds every mistake in it in one run, and
warns of what is legal but unwise; `homing init` writes one to start from.

- **Durations** are strings with a unit, `"500ms"`, `"90s"`, `"1m"`, `"24h"`, `"7d"`. **Sizes** are strings, `"10kB"` (1000),
  `"16KiB"` (1024), `"1MiB"`, or whole numbers of bytes.
- **References**: any string may be `"env:NAME"`, the value of an environment variable, or `"file:PATH"`, the content of a file
  without one trailing newline. What they lead to is never printed, logged or shown, and is a text even if it begins with `=`, where
  other strings would be expressions. Only in a JSON Schema strings are left alone.
- **One file serves all.** `homing gateway`, `homing broker` and `homing worker` read their parts of it: environment variables, secrets,
  codecs and files of the others need not be there.
- **Paths** count from the file that names them.
- **`include`** stands before the first table. A table that stands in two files is a mistake.
- **Method patterns** are exact names, or beginnings that end in `*`.
- **Names with dots** need quotes: `[methods."acme.charge"]`.
- A key without a default is required, or says what holds when it is left out.
"""

ERRORS_INTRO = """\
# Errors

<!-- Made from the code: `homing reference errors`. Edit the table in src/homing/errors.py instead. -->

What an error's `data` has: `reason`, `executed`, `retry` and `call_id` always, the rest where it applies.

- **`executed`** says whether the provider may have carried the call out. `no` and `yes` are proven; without proof it is `unknown`.
  The column tells what one attempt proves; the answer has the strongest over all attempts, `yes` before `unknown` before `no`.
- **`retry`** says what a caller may do: `safe`, ask again; `same_key`, ask again under the `idempotency_key` that is given, until
  `key_expires_ms`; `unsafe`, find out first; `pointless`, the answer would be the same. *By effect* is `unsafe` for `once`, `same_key`
  for `keyed` and `safe` for `safe`; it also holds for every answer whose `executed` is not `no`.
- **HTTP** is the status where all calls of the body were refused for this reason before they began; else it is 200. Every status of
  homing's own but 200 and 204 comes with `Homing-Executed: no`.
"""

Section = type[msgspec.Struct]


@click.command(short_help="Print a page of the reference.", epilog="Example: homing reference errors > docs/reference/errors.md")
@click.argument("page", type=click.Choice(["configuration", "errors"]))
def command(page: str) -> None:
    """Print a page of the reference, as it stands in docs/reference."""
    pages: dict[str, Callable[[], str]] = {"configuration": configuration_page, "errors": errors_page}
    click.echo(pages[page](), nl=False)


def configuration_page() -> str:
    """docs/reference/configuration.md."""
    parts = [CONFIGURATION_INTRO]
    names = {"peers": "NAME", "principals": "NAME", "providers": "NAME", "methods": '"NAME"'}
    include = fields_of(settings.Config)["include"]
    parts.append(_table([("include", include)]))
    for key, field in fields_of(settings.Config).items():
        base = unwrap(field.hint)[2]
        if key in names:
            parts += _section(f"{key}.{names[key]}", get_args(base)[1], 2)
        elif is_section(field.hint) and isinstance(base, type):
            parts += _section(key, base, 2)
    return "\n".join(parts)


def _section(header: str, section: Section, level: int, *, is_list: bool = False) -> Iterator[str]:
    """A heading, what the section is for, its keys, and then the sections that stand on their own."""
    shown = f"[[{header}]]" if is_list else f"[{header}]"
    yield f"{'#' * level} `{shown}`\n"
    if section.__doc__ and not section.__doc__.startswith(section.__name__):
        yield f"{' '.join(section.__doc__.split())}\n"
    if section is settings.Defaults:
        return
    own: list[tuple[str, Section, bool]] = []
    rows: list[tuple[str, Field]] = []
    for key, field in fields_of(section).items():
        rows += _rows(key, field)
        own += _own_sections(key, field)
    yield _table(rows)
    for key, inner, inner_is_list in own:
        tag = inner.__struct_config__.tag
        if tag is None:
            yield from _section(f"{header}.{key}", inner, level + 1, is_list=inner_is_list)
        else:
            yield f'{"#" * (level + 1)} `{key} = {{ type = "{tag}", … }}`\n'
            yield f"{' '.join((inner.__doc__ or '').split())}\n"
            yield _table(list(fields_of(inner).items()))


def _rows(key: str, field: Field) -> Iterator[tuple[str, Field]]:
    """A key, or the keys of a small section that needs no heading of its own."""
    base = unwrap(field.hint)[2]
    if is_section(field.hint) and isinstance(base, type) and not _stands_alone(field):
        for inner_key, inner in fields_of(base).items():
            yield f"{key}.{inner_key}", inner
    else:
        yield key, field


def _stands_alone(field: Field) -> bool:
    """Sections that are left out as a whole, and `defaults`."""
    return field.default is None or unwrap(field.hint)[2] is settings.Defaults


def _own_sections(key: str, field: Field) -> Iterator[tuple[str, Section, bool]]:
    base = unwrap(field.hint)[2]
    if get_origin(base) is tuple and is_section(get_args(base)[0]):
        yield key, get_args(base)[0], True
    elif is_section(field.hint) and isinstance(base, type) and _stands_alone(field):
        yield key, base, False
    elif get_args(base) and all(is_section(one) for one in get_args(base) if one is not type(None)):
        for one in get_args(base):
            if one is not type(None):
                yield key, one, False


def _table(rows: list[tuple[str, Field]]) -> str:
    lines = ["| key | what | default | meaning |", "|---|---|---|---|"]
    for key, field in rows:
        cells = (f"`{key}`", f"{_kind(field.hint)}{_bounds(field.hint)}", _default(field), field.reason)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |".replace("  |", " |"))
    return "\n".join(lines) + "\n"


def _kind(hint: object) -> str:
    form, _, base = unwrap(hint)
    if form is not None:
        return form.name
    origin = get_origin(base)
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in get_args(base))
    if origin is tuple:
        element = get_args(base)[0]
        return "tables, see below" if is_section(element) else f"list of {_plural(_kind(element))}"
    if origin is dict:
        return "table"
    if base is object:
        return "any value"
    plain = {int: "whole number", float: "number", bool: "`true` or `false`", str: "string"}
    return plain.get(base, "table, see below") if isinstance(base, type) else "table, see below"


def _bounds(hint: object) -> str:
    """How small and how large, where that is more than that it is not nothing."""
    form, bounds, _ = unwrap(hint)
    if bounds is None:
        return ""
    write = form.write if form is not None else str
    least = f", at least {write(bounds.ge)}" if bounds.ge not in {None, 0, 1} else ""
    return least + (f", at most {write(bounds.le)}" if bounds.le is not None else "")


def _plural(kind: str) -> str:
    return f"{kind}es" if kind.endswith("s") else f"{kind}s"


def _default(field: Field) -> str:
    form, _, _ = unwrap(field.hint)
    value = field.default
    if field.required:
        return "required"
    if value is None or value in ((), {}) or isinstance(value, settings.Defaults):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, int | float):
        if form is forms.DURATION_OR_OFF and not value:
            return '`""`'
        written = form.write(value) if form else str(value)
        return f'`"{written}"`' if form else f"`{written}`"
    return f'`"{value}"`'


def errors_page() -> str:
    """docs/reference/errors.md."""
    lines = [ERRORS_INTRO, "| code | reason | executed | retry | HTTP | meaning |", "|---|---|---|---|---|---|"]
    for row in TABLE:
        executed = "unknown, unless proven otherwise" if row.executed == "unknown" else row.executed
        cells = (f"{row.code}", f"`{row.reason}`", executed, row.retry or "by effect", f"{row.http_status}", row.meaning)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
