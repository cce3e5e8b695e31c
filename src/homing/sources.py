"""The TOML files a configuration is made of: reading, syntax errors in plain words, includes, and where in a file a key stands."""

import glob
import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

from homing.references import why_unreadable

SOURCE_BYTES_MAX = 16 * 1024 * 1024
NESTING_MAX = 200

KeyPath: TypeAlias = tuple[str | int, ...]


_KEY = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_HEADER_LINE = re.compile(rf"\s*(\[\[?)\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*\]")
_KEY_LINE = re.compile(rf"\s*({_KEY}(?:\s*\.\s*{_KEY})*)\s*=")
_PATH_PART = re.compile(rf"(?P<dot>\.?)(?:(?P<key>{_KEY})|\[(?P<index>[0-9]+)\])")


class Problem(msgspec.Struct, frozen=True):
    """One thing that is wrong, or with `warning` only unwise. `path` is as TOML would write it; `line` counts from 1, 0 is unknown."""

    file: str
    path: str
    message: str
    warning: bool = False
    line: int = 0

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.path, "warning" if self.warning else "", self.message) if part)


class ConfigError(Exception):
    """The configuration cannot be used. `problems` lists every mistake, in the order of file and line, and no warnings."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class SyntaxProblem(Exception):
    """A file that cannot be read as TOML; carries the one problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class Source:
    """One file: `name` as people are shown it, `folder` from which its relative paths count, `table` its content."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path
        self.name = name
        self.folder = path.parent
        self._text = _read_text(path, name)
        self.table: dict[str, object] = _parse(self._text, name)
        self._lines: dict[KeyPath, int] | None = None

    def line_of(self, path: KeyPath) -> int:
        """The line of the key at `path`, or of the nearest table around it; 0 if there is none."""
        if self._lines is None:
            self._lines = _locate(self._text)
        for length in range(len(path), 0, -1):
            if line := self._lines.get(path[:length]):
                return line
        return 0


def show_path(path: KeyPath) -> str:
    """`("methods", "acme.charge", "answers", 0)` as `methods."acme.charge".answers[0]`."""
    shown = ""
    for key in path:
        if isinstance(key, int):
            shown += f"[{key}]"
        else:
            shown += ("." if shown else "") + show_key(key)
    return shown


def show_key(key: str) -> str:
    """A key as TOML writes it: bare where it may be, else in quotes."""
    if re.fullmatch(r"[A-Za-z0-9_-]+", key, re.ASCII):
        return key
    return msgspec.json.encode(key).decode().replace("\x7f", "\\u007F")


def parse_path(text: str) -> KeyPath:
    """`show_path` backwards. Raises ValueError."""
    path: KeyPath = ()
    end = 0
    for part in _PATH_PART.finditer(text):
        if part.start() != end or bool(part["dot"]) == (end == 0 or part["index"] is not None):
            break
        end = part.end()
        path = (*path, int(part["index"])) if part["index"] is not None else (*path, *_keys(part["key"]))
    if end != len(text):
        raise ValueError(f"{text} is no path of a key")
    return path


def read_sources(path: Path) -> tuple[list[Source], list[Problem]]:
    """The file at `path` and what it includes, the includes in alphabetical order. Files that cannot be read become problems."""
    sources: list[Source] = []
    problems: list[Problem] = []
    _read_into(path, str(path), sources, problems, ())
    return sources, problems


def _read_into(path: Path, name: str, sources: list[Source], problems: list[Problem], above: tuple[Path, ...]) -> None:
    try:
        source = Source(path, name)
    except SyntaxProblem as error:
        problems.append(error.problem)
        return
    sources.append(source)
    above = (*above, path.resolve())
    included = source.table.get("include", [])
    if not isinstance(included, list):
        problems.append(_include_problem(source, ("include",), 'found no list, expected one such as ["providers/*.toml"]'))
        return
    for index, pattern in enumerate(included):
        at: KeyPath = ("include", index)
        if not isinstance(pattern, str) or not pattern:
            problems.append(_include_problem(source, at, 'expected a path or a pattern such as "providers/*.toml"'))
            continue
        matches = list(_matches(source.folder, pattern))
        if not matches:
            is_pattern = glob.has_magic(pattern)
            message = f'"{pattern}" matches no file' if is_pattern else f'there is no file "{pattern}"'
            problems.append(_include_problem(source, at, message, warning=is_pattern))
        for match in matches:
            resolved = match.resolve()
            if resolved in above:
                problems.append(_include_problem(source, at, f'"{pattern}" includes {match.name}, which is being read already'))
            elif any(resolved == other.path.resolve() for other in sources):
                problems.append(_include_problem(source, at, f"{match.name} is included twice"))
            else:
                shown = os.path.normpath(Path(name).parent / os.path.relpath(match, source.folder))
                _read_into(match, shown, sources, problems, above)


def _matches(folder: Path, pattern: str) -> Iterator[Path]:
    # Path.glob takes no absolute patterns
    for match in sorted(glob.glob(pattern, root_dir=folder, recursive=True)):  # noqa: PTH207
        path = folder / match
        if path.is_file():
            yield path


def _include_problem(source: Source, path: KeyPath, message: str, *, warning: bool = False) -> Problem:
    return Problem(source.name, show_path(path), message, warning, source.line_of(path))


def _read_text(path: Path, name: str) -> str:
    try:
        with path.open("rb") as opened:
            content = opened.read(SOURCE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise SyntaxProblem(Problem(name, "", "there is no such file; `homing init` writes one to start from")) from None
    except (OSError, ValueError) as error:
        raise SyntaxProblem(Problem(name, "", f"it cannot be read: {why_unreadable(error)}")) from None
    if len(content) > SOURCE_BYTES_MAX:
        raise SyntaxProblem(Problem(name, "", f"it is over {SOURCE_BYTES_MAX // 1024**2} MiB, too large for a configuration"))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SyntaxProblem(Problem(name, "", f"line {line}: this is not UTF-8 text", line=line)) from None


# What tomllib says, in plain words

_SAID = re.compile(r"(?P<what>.*) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)", re.DOTALL)
_OPENED = re.compile(r"[=,\[{]\s*'(?!'')(?=[^']*$)")
_TWICE = re.compile(r"Cannot declare \((?P<keys>.*?),?\) twice", re.DOTALL)


def _parse(text: str, name: str) -> dict[str, object]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SyntaxProblem(_syntax_problem(str(error), text, name)) from None
    except RecursionError:
        table = None
    if table is None or _is_deep(table):
        raise SyntaxProblem(
            Problem(name, "", f"it is nested too deeply: more than {NESTING_MAX} tables and lists in one another")
        )
    return table


def _is_deep(table: dict[str, object]) -> bool:
    level: list[object] = [table]
    for _ in range(NESTING_MAX):
        level = [inner for one in level for inner in _inner(one)]
        if not level:
            return False
    return True


def _inner(value: object) -> Iterable[object]:
    within = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [one for one in within if isinstance(one, dict | list)]


def _syntax_problem(said: str, text: str, name: str) -> Problem:
    found = _SAID.fullmatch(said)
    what = found["what"] if found else said
    lines = text.split("\n")
    if found is None or found["line"] is None:
        line, column = len(lines), len(lines[-1]) + 1
    else:
        line, column = int(found["line"]), int(found["column"])
    if what == 'Expected "\'"':  # told of the end of the file, however far that is
        line, column = next(
            ((number, opened.end()) for number, text in enumerate(lines, 1) if (opened := _OPENED.search(text))), (line, column)
        )
    sentence = _plain_sentence(what, lines[line - 1], column)
    return Problem(name, "", f"line {line}, column {column}: {sentence}", line=line)


def _plain_sentence(what: str, line: str, column: int) -> str:
    before, after = line[: column - 1], line[column - 1 :]
    header = re.match(r"\s*(\[\[?)([^\]#]*)", line)
    if header and " " in header[2].strip() and not header[2].strip().startswith(("'", '"')) and "=" not in line:
        return f"a table's name with a space in it needs quotes: {header[1]}{_quoted_name(header[2])}{']' * len(header[1])}"
    if twice := _TWICE.fullmatch(what):
        keys = tuple(re.findall(r"'((?:[^'\\]|\\.)*)'", twice["keys"]))
        return f"the table [{show_path(keys)}] stands here for the second time"
    if what == "Cannot overwrite a value" or what.startswith("Duplicate inline table key"):
        return "this key stands here for the second time"
    if "“" in line or "”" in line:
        return 'these are typographic quotes; TOML wants straight ones: "…"'
    if what.startswith("Expected '='"):
        return _no_equals(before, after)
    if what == "Invalid statement":
        return _no_statement(after)
    if what.startswith(("Expected newline", "Invalid value", "Unclosed inline table", "Unclosed array")):
        return _no_value(what, before, after)
    if what.startswith("Invalid initial character for a key part"):
        if re.search(r"\{[^}]*$", before) and after.strip()[:1] in ("", "}", "#"):
            return (
                "an inline table ends on the line it began on, with no comma before its }; give it a [table] of its own instead"
            )
        return "a key was expected here"
    if what.startswith(("Illegal character '\\n'", 'Expected "\'"')) or what == "Unterminated string":
        return "the quotes around this string are never closed"
    if what.startswith("Unescaped '"):
        return 'a \\ in a string between " is an escape; write \\\\ or put the string between single quotes'
    if what.startswith(("Expected ']'", "Expected ']]'")):
        return "a table's header ends with ] on its own line"
    return what[:1].lower() + what[1:]


def _no_equals(before: str, after: str) -> str:
    if after.lstrip().startswith(":"):
        return "TOML writes key = value; here is a : instead of the ="
    words = re.search(r"([A-Za-z0-9_-]+)\s+$", before)
    if words and after[:1].strip() not in ("", "=", "."):
        rest = re.match(r"[A-Za-z0-9_ -]*[A-Za-z0-9_-]", after)
        name = f"{words[1]} {rest[0]}" if rest else words[1]
        if " = " in f"{after} " or "=" in after:
            return f'a key with a space in it needs quotes: "{name}"'
    return "a = and a value were expected here: key = value"


def _no_statement(after: str) -> str:
    if after.startswith("//"):
        return "a comment begins with #"
    if after.startswith("{"):
        return "this looks like JSON, and TOML was expected: a [table], and in it key = value"
    return "a [table] or a key = value was expected here"


def _no_value(what: str, before: str, after: str) -> str:
    start = re.search(r"(?:^|=|,|\[|\{)\s*([^=,\[\]{}\"']*)$", before)
    word = re.match(r"[^\s,\]}#]*", (start[1] if start else "") + after)
    text = word[0] if word else ""
    if text in ("True", "False"):
        return f"TOML writes {text.lower()}, in lower case"
    if text in ("null", "None", "nil"):
        return "TOML has no null; leave the key out"
    if what.startswith("Unclosed inline table"):
        return "an inline table ends on the line it began on; give it a [table] of its own instead"
    if what.startswith("Unclosed array"):
        return "this list wants a comma or a ] here"
    if not text:
        return "a value is missing here" if what == "Invalid value" else "something follows the end of this value"
    if re.match(r"[A-Za-z0-9_./:*+~-]", text) and '"' not in text:
        return f'a text needs quotes: "{text}"'
    return "something follows the end of this value" if what.startswith("Expected newline") else "this is no TOML value"


def _quoted_name(keys: str) -> str:
    parts = [part.strip() for part in keys.strip().split(".")]
    return ".".join(show_key(part.strip("\"'")) for part in parts)


# Where a key stands


def _locate(text: str) -> dict[KeyPath, int]:
    """Key paths and the lines they begin on. A guess by lines, for sorting and for people: tomllib keeps no positions."""
    lines: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER_LINE.match(line):
            keys = _keys(header[2])
            if header[1] == "[[":
                base = _with_indexes(keys[:-1], counts) + keys[-1:]
                table = (*base, counts.get(base, 0))
                counts[base] = counts.get(base, 0) + 1
                lines.setdefault(base, number)
            else:
                table = _with_indexes(keys, counts)
            path = table
        elif key := _KEY_LINE.match(line):
            path = (*table, *_keys(key[1]))
        else:
            continue
        for length in range(1, len(path) + 1):
            lines.setdefault(path[:length], number)
    return lines


def _with_indexes(keys: KeyPath, counts: dict[KeyPath, int]) -> KeyPath:
    """A header below an array of tables belongs to its latest element."""
    path: KeyPath = ()
    for key in keys:
        path = (*path, key)
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _keys(text: str) -> KeyPath:
    nested: object = tomllib.loads(f"{text} = 0")
    keys: list[str] = []
    while isinstance(nested, dict):
        ((key, nested),) = nested.items()
        keys.append(key)
    return tuple(keys)
