"""Reads `homing.toml` and what it includes into `homing.settings.Config`, with every mistake reported in one run.

`load` is for who needs the configuration, `read` for who wants to know all about it. Methods have their provider's `defaults`
merged in, and are compiled.
"""

import difflib
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

import msgspec

from homing import checks, forms, settings
from homing.core import methods as core_methods
from homing.core import specs
from homing.decoding import Decoder, Wrong, fields_of, show, unwrap
from homing.forms import Address, Form, parse_address
from homing.settings import Config
from homing.sources import ConfigError, KeyPath, Problem, Source, parse_path, read_sources, show_path

__all__ = [
    "CONFIG_NAME",
    "Config",
    "ConfigError",
    "Problem",
    "Reading",
    "check",
    "compile_methods",
    "load",
    "read",
]

CONFIG_NAME = "homing.toml"

Section = TypeVar("Section", bound=msgspec.Struct)
Role: TypeAlias = Literal["gateway", "broker", "worker", "functions"]
"""A process that reads its part only; `functions` is a worker that asks no providers."""

_SINGLE = ("gateway", "admin", "broker", "worker")
_NAMED: dict[str, type[msgspec.Struct]] = {
    "peers": settings.Peer,
    "principals": settings.Principal,
    "providers": settings.Provider,
    "methods": settings.Method,
}
_TABLES = {section: f"[{section}]" for section in _SINGLE} | {section: f"[{section}.NAME]" for section in _NAMED}
_PARTS: dict[Role, tuple[str, ...]] = {
    "gateway": ("gateway", "admin", "principals"),
    "broker": ("broker", "peers"),
    "worker": ("worker", "providers", "methods"),
    "functions": ("worker",),
}
_ASKING = (
    "request",
    "headers",
    "query",
    "body",
    "encode",
    "decode",
    "result",
    "answers",
    "lookup",
)  # of a method: only for workers
_SENDING = ("effect", "idempotency_key", "params", "request", "headers", "query", "body", "encode")
_WHOLE = ("params", "answers")  # in `defaults`: taken whole, where other tables are merged key by key


class Reading(msgspec.Struct, frozen=True):
    """All that came of reading a configuration. `config` is None if `problems` has more than warnings.

    `methods` are compiled; `referred` is every value that a reference led to, for masking what is printed: it is left out of reprs.
    """

    config: Config | None
    methods: dict[str, core_methods.Method]
    problems: tuple[Problem, ...]
    referred: frozenset[str]

    def __repr__(self) -> str:
        return f"Reading(config={self.config!r}, problems={self.problems!r})"


def load(path: str | os.PathLike[str], *, listen: str | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration at `path`. `listen`, or else `HOMING_LISTEN`, overrides `gateway.listen`. Raises ConfigError."""
    return usable(read(path, listen=listen, environ=environ))


def usable(reading: Reading) -> Config:
    """The configuration that was read. Raises ConfigError if there is none for its mistakes."""
    if reading.config is None:
        raise ConfigError([problem for problem in reading.problems if not problem.warning])
    return reading.config


def check(path: str | os.PathLike[str], *, environ: Mapping[str, str] = os.environ) -> list[Problem]:
    """Every mistake and every warning, by file and line."""
    return list(read(path, environ=environ).problems)


def compile_methods(config: Config) -> dict[str, core_methods.Method]:
    """The methods of a configuration that has been read without mistakes, compiled. Raises ConfigError."""
    compiled: dict[str, core_methods.Method] = {}
    wrong: list[Problem] = []
    for name, method in config.methods.items():
        made, problems = compile_method(name, method, config.providers)
        if made is not None:
            compiled[name] = made
        wrong += [Problem("", one.path, one.message) for one in problems if not one.warning]
    if wrong:
        raise ConfigError(wrong)
    return compiled


def read(
    path: str | os.PathLike[str],
    *,
    listen: str | None = None,
    environ: Mapping[str, str] = os.environ,
    role: Role | None = None,
) -> Reading:
    """Reads, decodes, checks and compiles. Mistakes come back in `problems`, none are raised.

    One file serves all: a process with a `role` of its own needs no secrets, keys and certificates of the others. What it cannot get
    at of those is replaced by something that stands in for it, and whether they go together is not looked at.

    After a syntax error in some file, or without a file that is included, nothing else is reported, for what stands behind it is not known.
    """
    sources, problems = read_sources(Path(path))
    if not sources or any(not problem.warning for problem in problems):
        return Reading(None, {}, tuple(problems), frozenset())
    return _Reader(sources, problems, environ, role).read(listen)


class _Reader:
    """One run over all files."""

    def __init__(
        self, sources: list[Source], problems: list[Problem], environ: Mapping[str, str], role: Role | None = None
    ) -> None:
        self.role = role
        self.sources = sources
        self.owners: dict[KeyPath, Source] = {}
        self.single: dict[str, object] = {}
        self.named: dict[str, dict[str, object]] = {section: {} for section in _NAMED}
        self.decoder = Decoder(environ, self.origin, _homes(), self._elsewhere, _TABLES)
        self.decoder.problems = dict.fromkeys(problems)

    def read(self, listen: str | None) -> Reading:
        for source in self.sources:
            self._gather(source)
        gateway = self._single("gateway", settings.Gateway)
        config = Config(
            gateway=msgspec.structs.replace(gateway, listen=self._listen(gateway.listen, listen)),
            admin=self._single("admin", settings.Admin),
            broker=self._single("broker", settings.Broker),
            worker=self._single("worker", settings.Worker),
            peers=self._entries("peers", forms.NAME, settings.Peer),
            principals=self._entries("principals", forms.NAME, settings.Principal),
            providers=self._entries("providers", forms.NAME, settings.Provider),
            methods=self._entries("methods", forms.METHOD_NAME, settings.Method),
        )
        wrong = [problem.path for problem in self.decoder.problems if not problem.warning]
        doubtful = [str(path[1]) for path in self.decoder.mistaken if path[0] == "methods" and len(path) > 1]
        names = checks.Names(
            frozenset(self.named["providers"]),
            frozenset(self.named["methods"]),
            frozenset(doubtful),
            frozenset(section for section in _SINGLE if any(path.startswith(f"{section}.curve") for path in wrong)),
        )
        checks.check(config, names, self._checked)
        self._check_keys(config, names)
        compiled = self._compile(config)
        order = {source.name: index for index, source in enumerate(self.sources)}
        found = sorted(_without_echoes(self.decoder.problems), key=lambda problem: (order.get(problem.file, -1), problem.line))
        right = all(problem.warning for problem in found)
        return Reading(config if right else None, compiled, tuple(found), frozenset(self.decoder.values_referred))

    def origin(self, path: KeyPath) -> tuple[Source, KeyPath]:
        """Where the value at a path stands: a method's may stand in its provider's `defaults`, in another file."""
        source = self.owners.get(path[:2]) or self.owners.get(path[:1]) or self.sources[0]
        if len(path) > 2 and path[0] == "methods":
            own = self.named["methods"].get(str(path[1]))
            provider = own.get("provider") if isinstance(own, dict) else None
            under: KeyPath = ("defaults", *path[2:])
            if isinstance(provider, str) and not _stands(own, path[2:]) and _stands(self.named["providers"].get(provider), under):
                return self.owners["providers", provider], ("providers", provider, *under)
        return source, path

    def _elsewhere(self, path: KeyPath) -> bool:
        """Whether another role than this one needs what stands here."""
        if self.role is None or path[0] in _PARTS[self.role]:
            return False
        return path[0] != "methods" or (len(path) > 2 and path[2] in (*_ASKING, *(() if self.role == "gateway" else ("params",))))

    def _checked(self, path: KeyPath, message: str, *, warning: bool = False) -> None:
        """A problem between keys, unless it is another role's: it may be about what only stands in for something."""
        if self.role is None or path[0] in _PARTS[self.role] or (self.role == "gateway" and path[0] == "methods"):
            self.decoder.report(path, message, warning=warning)

    # Tables

    def _gather(self, source: Source) -> None:
        """Puts the tables of one file to those of the files before it; what stands twice is reported in the later file."""
        for section, table in source.table.items():
            if section in _SINGLE:
                if self._owned((section,), source):
                    self.single[section] = table
            elif section in _NAMED and isinstance(table, dict):
                for name, one in table.items():
                    if self._owned((section, name), source):
                        self.named[section][name] = one
            elif section in _NAMED:
                self.decoder.report_in(source, (section,), f"found {show(table)}, expected tables such as [{section}.NAME]")
            elif section != "include":
                self.decoder.report_in(source, (section,), self.decoder.unknown_key(section, ("include", *_SINGLE, *_NAMED)))

    def _owned(self, path: KeyPath, source: Source) -> bool:
        other = self.owners.setdefault(path, source)
        if other is not source:
            line = other.line_of(path)
            self.decoder.report_in(source, path, f"it stands in {other.name} too, line {line}; one of the two has to go")
        return other is source

    def _single(self, section: str, kind: type[Section]) -> Section:
        found = self.decoder.section(kind, self.single.get(section, {}), (section,))
        return kind() if isinstance(found, Wrong) else found

    def _entries(self, section: str, form: Form, kind: type[Section]) -> dict[str, Section]:
        """Every right table of a section, by its name."""
        found: dict[str, Section] = {}
        for name, raw in self.named[section].items():
            path: KeyPath = (section, name)
            if name == "include" and not isinstance(raw, dict):
                self.decoder.misplaced_include((section,))
                continue
            if isinstance(raw, dict) and (unquoted := self._unquoted(path, raw, kind)):
                raw = {key: value for key, value in raw.items() if key not in unquoted}
                if not raw:
                    continue
            if self.decoder.named_wrongly(form, path):
                continue
            if isinstance(raw, dict) and section == "providers":
                raw = self._without_defaults(raw, path)
            if isinstance(raw, dict) and section == "methods":
                raw = self._with_defaults(raw)
            one = self.decoder.section(kind, raw, path)
            if not isinstance(one, Wrong):
                found[name] = one
        return found

    def _unquoted(self, path: KeyPath, table: dict[str, object], kind: type[msgspec.Struct]) -> set[str]:
        """The keys of a table that are the second half of a name whose quotes were forgotten: `[methods.acme.charge]`."""
        known = fields_of(kind)
        found: set[str] = set()
        for key, inner in table.items():
            if (key in known and not _is_whole(inner)) or (key not in known and difflib.get_close_matches(key, known, 1, 0.8)):
                continue
            for deeper in _tables_with(known, inner, (*path, key)):
                header = self._quoted(deeper, inner)
                self.decoder.report(deeper, f"dots without quotes make tables within tables; write {header}")
                found.add(key)
        return found

    def _quoted(self, path: KeyPath, table: object) -> str:
        """The header as it was meant. Where the method itself has its quotes, only a part of it lacks them."""
        for key in path[3:]:
            table = table[key]  # type: ignore[index]
        section, name = str(path[0]), ".".join(str(part) for part in path[1:])
        if name in self.named[section] and isinstance(table, dict) and len(table) == 1:
            ((part, below),) = table.items()
            header = f"[{show_path((section, name, part))}]"
            return f"[{header}]" if isinstance(below, list) else header
        return f"[{show_path((section, name))}]"

    # Defaults

    def _without_defaults(self, provider: dict[str, object], path: KeyPath) -> dict[str, object]:
        """A provider's table without `defaults`, which are looked at by themselves and merged into its methods."""
        if "defaults" not in provider:
            return provider
        defaults = provider["defaults"]
        under: KeyPath = (*path, "defaults")
        if isinstance(defaults, dict) and "provider" in defaults:
            self.decoder.report((*under, "provider"), "a provider's defaults are for its own methods; leave this out")
        self.decoder.section(settings.Defaults, defaults, under, partial=True)
        return {key: value for key, value in provider.items() if key != "defaults"}

    def _with_defaults(self, method: dict[str, object]) -> dict[str, object]:
        provider = self.named["providers"].get(str(method.get("provider")))
        defaults = provider.get("defaults") if isinstance(provider, dict) else None
        return _merged(defaults, method) if isinstance(defaults, dict) else method

    # The rest

    def _listen(self, configured: Address, given: str | None) -> Address:
        name, text = ("--listen", given) if given else ("HOMING_LISTEN", self.decoder.environ.get("HOMING_LISTEN"))
        if not text:
            return configured
        try:
            return parse_address(text)
        except ValueError as error:
            message = f"found {show(text)}, expected {forms.ADDRESS.expected}: {error}"
            self.decoder.problems[Problem(name, "", message)] = None
            return configured

    def _check_keys(self, config: Config, names: checks.Names) -> None:
        """Warns of idempotency keys that nobody heeds, unless a provider's `defaults` mean them for other methods."""
        for name, method in config.methods.items():
            if method.effect != "safe" or method.idempotency_key is None or name in names.doubtful:
                continue
            own = self.named["methods"][name]
            if _stands(own, ("idempotency_key",)) or not _stands(own, ("effect",)):
                message = "it has no effect: what is safe is repeated without a key, and none is asked for"
                self._checked(("methods", name, "idempotency_key"), message, warning=True)

    def _compile(self, config: Config) -> dict[str, core_methods.Method]:
        compiled: dict[str, core_methods.Method] = {}
        folder = str(self.sources[0].path.parent.absolute())
        if folder not in sys.path:  # at the end: a codec beside the file is found, and shadows nothing
            sys.path.append(folder)
        mistaken: dict[KeyPath, list[KeyPath]] = {}
        for path in self.decoder.mistaken:
            mistaken.setdefault(path[:2], []).append(path)
        for name, provider in config.providers.items():
            for problem in core_methods.check_provider(settings.provider_spec(name, provider)):
                self._report_compiled(problem, ("providers", name), mistaken)
        for name, method in config.methods.items():
            wrong = {path[2] for path in mistaken.get(("methods", name), ()) if len(path) > 2}
            around = ("providers", method.provider or "", "headers")
            doubtful = not wrong.isdisjoint(_SENDING) or any(path[:3] == around for path in mistaken.get(around[:2], ()))
            if "provider" in wrong and method.provider is None:
                method = msgspec.structs.replace(method, provider="")  # some provider, and nobody knows which
            if self.role not in (None, "worker"):
                method = _without_codecs(method)
            made, problems = compile_method(name, method, config.providers, doubtful=doubtful)
            for problem in problems:
                self._report_compiled(problem, ("methods", name), mistaken)
            if made is not None:
                compiled[name] = made
        return compiled

    def _report_compiled(self, problem: specs.Problem, near: KeyPath, mistaken: Mapping[KeyPath, list[KeyPath]]) -> None:
        """Reports what compiling found, but for what only echoes a mistake at the same place."""
        try:
            path = parse_path(problem.path)
        except ValueError:
            path = near
        below = path != near  # a mistake in one key of a method has nothing to do with what is said of it as a whole
        beside = mistaken.get(path[:2], ())
        if not any(path[: len(wrong)] == wrong or (below and wrong[: len(path)] == path) for wrong in beside):
            self.decoder.report(path, problem.message, warning=problem.warning)


def compile_method(
    name: str, method: settings.Method, providers: Mapping[str, settings.Provider], *, doubtful: bool = False
) -> tuple[core_methods.Method | None, list[specs.Problem]]:
    """One method, compiled, and what is wrong with it, but that its provider is not there. Paths are as in the file."""
    table = None if method.provider is None else providers.get(method.provider)
    provider = None if table is None else settings.provider_spec(str(method.provider), table)
    return core_methods.compile_method(settings.method_spec(name, method), provider, doubtful=doubtful)


def _without_codecs(method: settings.Method) -> settings.Method:
    """A method for who asks no provider: the modules of its codecs need not be there, and nothing in them is run."""
    codecs = {key: "json" for key in ("encode", "decode") if getattr(method, key).startswith("python:")}
    return msgspec.structs.replace(method, **codecs)


def _without_echoes(problems: Iterable[Problem]) -> list[Problem]:
    """All but the warnings that only echo a mistake: a schema that is wrong is not missing, nor a lookup if it is unclear what for."""
    mistakes = {(problem.file, problem.path) for problem in problems if not problem.warning}
    around = {(file, path[:end]) for file, path in mistakes for end, character in enumerate(path) if character in ".["}

    def echoes(warning: Problem) -> bool:
        at = (warning.file, warning.path)
        return at in mistakes or at in around or (warning.file, re.sub(r"\.lookup$", ".effect", warning.path)) in mistakes

    return [problem for problem in problems if not problem.warning or not echoes(problem)]


def _is_whole(inner: object) -> bool:
    """Whether a table below a known key is a whole method: `[methods.acme.lookup]` may be one called "acme.lookup"."""
    return isinstance(inner, dict) and isinstance(inner.get("provider"), str) and isinstance(inner.get("request"), str)


def _tables_with(known: Mapping[str, object], table: object, path: KeyPath) -> Iterator[KeyPath]:
    """Where the nearest tables stand that have a known key."""
    if not isinstance(table, dict):
        return
    if known.keys() & table.keys():
        yield path
        return
    for key, inner in table.items():
        yield from _tables_with(known, inner, (*path, key))


def _merged(under: dict[str, object], over: dict[str, object]) -> dict[str, object]:
    """`over` where it says something, else `under`; tables in both are merged likewise, but for those that make sense whole only."""
    merged = dict(under)
    for key, value in over.items():
        below = under.get(key)
        both_tables = isinstance(value, dict) and isinstance(below, dict) and key not in _WHOLE
        merged[key] = _merged(below, value) if both_tables else value  # type: ignore[arg-type]
    return merged


def _stands(table: object, path: KeyPath) -> bool:
    for key in path:
        named = isinstance(table, dict) and key in table
        numbered = isinstance(table, list) and isinstance(key, int) and key < len(table)
        if not named and not numbered:
            return False
        table = table[key]  # type: ignore[index]
    return True


@cache
def _homes() -> dict[str, str]:
    """Keys that only one section has, and that section: for who wrote them elsewhere."""
    homes: dict[str, list[str]] = {}
    for section, field in fields_of(Config).items():
        base = unwrap(field.hint)[2]
        kind = _NAMED.get(section, base)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            for key in fields_of(kind):
                homes.setdefault(key, []).append(_TABLES[section])
    return {key: sections[0] for key, sections in homes.items() if len(sections) == 1}
