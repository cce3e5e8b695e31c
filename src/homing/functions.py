"""A Python function as a method: its schema from its signature, its arguments from JSON, its result to JSON.

    function = Function(build, service="reports", effect="safe", timeout_s=60)
    arguments = function.arguments(b'{"year": 2024}')     # raises WrongParams
    text = result_text(build(**arguments))

Types are msgspec's: plain ones, dataclasses, TypedDicts, Structs, enums, Literals, unions; and pydantic's models, known by what they can
do. A param without an annotation may be any JSON.
"""

import dataclasses
import functools
import inspect
import math
import re
import typing
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Final, Protocol, cast, runtime_checkable

import msgspec

from homing.core.jsonrpc import check_json
from homing.core.messages import LABEL_LENGTH_MAX, POSITIONAL_MAX, SCHEMA_BYTES_MAX, TEXT_LENGTH_MAX, MethodOffer
from homing.core.scalars import pointer
from homing.errors import RETRY_BY_EFFECT, Effect, ParamError

RESULT_DEPTH_MAX: Final = 512
TIMEOUT_MAX_S: Final = 2**31 / 1000  # that fits a message
_URI_UNFIT: Final = re.compile(r"[^A-Za-z0-9_]")  # Page[int], and letters of other alphabets
_AT: Final = re.compile(r" - at (`key` in )?`\$([^`]*)`$")
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
_UNNAMED: Final = "[...]"  # a member of a dict: which one, msgspec does not say
_KINDS: Final = {
    inspect.Parameter.POSITIONAL_ONLY: "can be given by position only; params have names",
    inspect.Parameter.VAR_POSITIONAL: "takes any number of values; params have names",
    inspect.Parameter.VAR_KEYWORD: "takes any name; callers are told which names there are",
}


@runtime_checkable
class _Model(Protocol):
    """What a pydantic model can do, as far as it matters here."""

    def model_dump(self, *, mode: str, by_alias: bool) -> object: ...
    @classmethod
    def model_validate_json(cls, text: bytes) -> object: ...
    @classmethod
    def model_json_schema(cls, *, ref_template: str) -> dict[str, object]: ...


class _Errors(Protocol):
    """What pydantic raises."""

    def errors(self) -> list[dict[str, object]]: ...


class WrongParams(Exception):
    """The params fit no call of the function; it was not called."""

    def __init__(self, errors: tuple[ParamError, ...]) -> None:
        super().__init__("; ".join(f"{error.path or 'params'}: {error.message}" for error in errors))
        self.errors = errors


class _Parameter(msgspec.Struct, frozen=True):
    decode: Callable[[msgspec.Raw], object]
    required: bool


class Function:
    """One function of a Python worker. Raises TypeError or ValueError for one that cannot be a method, and says why."""

    __slots__ = ("_parameters", "call", "effect", "is_async", "name", "positional", "schema", "service", "summary", "timeout_s")

    def __init__(
        self,
        call: Callable[..., object],
        *,
        service: str,
        name: str | None = None,
        effect: Effect = "once",
        timeout_s: float | None = None,
    ) -> None:
        self.call = call
        self.service = service
        self.name = f"{service}.{_name_of(call) if name is None else name}"
        self.effect: Effect = effect
        self.timeout_s = timeout_s
        self.summary = (inspect.getdoc(_behind_partial(call)) or "").partition("\n")[0].strip()
        self.is_async = inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004
        named = re.fullmatch(r"[^\s*][^*\n]{0,199}(?<!\s)", self.name) is not None and self.name.isprintable()
        if not named or name == "" or self.name.startswith("rpc."):
            rule = "1 to 200 printable characters without * and not beginning with rpc."
            raise ValueError(f"{self.name!r} is no name for a method: {rule}")
        if effect not in tuple(RETRY_BY_EFFECT):
            raise ValueError(f'{self.name}: effect is {effect!r}, expected "once", "keyed" or "safe"')
        if timeout_s is not None and not (_is_number(timeout_s) and 0 < timeout_s <= TIMEOUT_MAX_S):
            raise ValueError(f"{self.name}: timeout is {timeout_s!r}, expected seconds, such as 60, at most {int(TIMEOUT_MAX_S)}")
        if inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call):
            raise TypeError(f"{self.name} yields; a call has one answer, which is returned")
        self._parameters: dict[str, _Parameter] = {}
        self.positional: tuple[str, ...] = ()
        self.schema = self._read_signature()
        self._check_lengths()

    @property
    def offer(self) -> MethodOffer:
        """What callers and their gateways are told."""
        return MethodOffer(
            name=self.name,
            service=self.service,
            effect=self.effect,
            timeout_ms=max(1, round(self.timeout_s * 1000)) if self.timeout_s else 0,
            summary=self.summary,
            params=msgspec.json.encode(self.schema),
            positional=self.positional,
        )

    def arguments(self, params: bytes) -> dict[str, object]:
        """The arguments that the JSON text of an object stands for; b"" is for none. Raises WrongParams."""
        try:
            given = _MEMBERS.decode(params) if params else {}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise WrongParams((ParamError("", "is no JSON object"),)) from None
        found: dict[str, object] = {}
        errors: list[ParamError] = []
        for name, raw in given.items():
            parameter = self._parameters.get(name)
            if parameter is None:
                errors.append(ParamError("", f"has what the method does not know: {name[:40]}"))
                continue
            try:
                found[name] = parameter.decode(raw)
            except msgspec.ValidationError as error:
                errors += _param_errors(name, error)
            except Exception as error:  # of a type's own hooks, a RecursionError or wrong UTF-8: none of it fits
                errors.append(ParamError(pointer((name,)), f"cannot be read ({type(error).__name__})"))
        lacking = [name for name, parameter in self._parameters.items() if parameter.required and name not in given]
        errors += [ParamError("", f'lacks the member "{name}"') for name in lacking]
        if errors:
            raise WrongParams(tuple(errors[:20]))
        return found

    def _read_signature(self) -> dict[str, object]:
        """The JSON Schema of the params; the parameters' decoders are kept on the way."""
        try:
            signature = inspect.signature(self.call)
        except (TypeError, ValueError):
            raise TypeError(f"{self.name} has no signature that Python can tell") from None
        hints = self._hints()
        properties: dict[str, object] = {}
        definitions: dict[str, object] = {}
        required: list[str] = []
        for parameter in signature.parameters.values():
            name = parameter.name
            if parameter.kind in _KINDS:
                raise TypeError(f"{self.name}: parameter {name!r} {_KINDS[parameter.kind]}")
            if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                self.positional += (name,)
            optional = parameter.default is not inspect.Parameter.empty
            if not optional:
                required.append(name)
            hint = hints.get(name, object)
            if any(map(_is_pydantics, (*_parts_of(hint), parameter.default))):
                why = "what a dataclass or Field of pydantic's asks for would not be checked; use a BaseModel, or msgspec's Meta"
                raise TypeError(f"{self.name}: parameter {name!r}: {why}")
            try:
                schema, defined = _schema_of(hint)
                if any(definitions.get(each, said) != said for each, said in defined.items()):  # of another type of that name
                    schema, defined = _schema_of(hint, prefix=f"{len(properties)}.")
                decoder = msgspec.json.Decoder(hint, dec_hook=_from_json)
            except (TypeError, ValueError, NotImplementedError) as error:
                why = str(error).rpartition("\n\n")[
                    2
                ]  # what stands before it is advice for programs that call msgspec themselves
                raise TypeError(f"{self.name}: parameter {name!r}: {why}") from None
            if optional:
                schema |= _default_of(parameter.default)
            properties[name] = schema
            definitions |= defined
            self._parameters[name] = _Parameter(cast("Callable[[msgspec.Raw], object]", decoder.decode), not optional)
        whole: dict[str, object] = {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }
        return {**whole, "$defs": definitions} if definitions else whole

    def _check_lengths(self) -> None:
        """A broker reads no offer that is larger, and would not hear of any function of this worker."""
        length = len(msgspec.json.encode(self.schema))
        if length > SCHEMA_BYTES_MAX:
            raise ValueError(
                f"{self.name}: the JSON Schema of its params has {length} bytes, at most {SCHEMA_BYTES_MAX} can be told"
            )
        if len(self.summary) > TEXT_LENGTH_MAX:
            length = len(self.summary)
            raise ValueError(f"{self.name}: the first line of its docstring has {length} characters, at most {TEXT_LENGTH_MAX}")
        if len(self.positional) > POSITIONAL_MAX:
            raise ValueError(f"{self.name}: {len(self.positional)} params can be given by position, at most {POSITIONAL_MAX} may")
        for name in self.positional:
            if len(name) > LABEL_LENGTH_MAX:
                raise ValueError(f"{self.name}: the name of a param has {len(name)} characters, at most {LABEL_LENGTH_MAX}")

    def _hints(self) -> dict[str, object]:
        """The annotations, those that are written as text too."""
        call = _behind_partial(self.call)
        source = call if inspect.isroutine(call) or inspect.isclass(call) else getattr(call, "__call__", call)  # noqa: B004
        written = getattr(source, "__annotations__", {})
        if "return" in written and not inspect.isclass(source):  # nobody asks what it returns, and its name may come later
            params = {name: hint for name, hint in written.items() if name != "return"}
            source = SimpleNamespace(__annotations__=params, __wrapped__=source)
        try:
            return typing.get_type_hints(source, include_extras=True)
        except Exception as error:  # an annotation is any expression
            raise TypeError(f"{self.name}: an annotation cannot be read: {error}") from None


def result_text(result: object) -> bytes:
    """The JSON text of what a function returned. Raises TypeError or ValueError for what has none."""
    try:
        text = _ENCODER.encode(result)
    except RecursionError:
        raise ValueError("the result is nested too deeply, or holds itself") from None
    if b"null" in text and _holds_nan(result):
        raise ValueError("the result holds a number that JSON does not have: NaN or Infinity")
    check_json(text, RESULT_DEPTH_MAX)  # a msgspec.Raw goes in as it is, whatever it is
    return text


def _behind_partial(call: Callable[..., object]) -> Callable[..., object]:
    """The function whose documentation and annotations a `functools.partial` has not."""
    while isinstance(call, functools.partial):
        call = call.func
    return call


def _name_of(call: Callable[..., object]) -> str:
    name = getattr(call, "__name__", "")
    if not name or name == "<lambda>":
        raise TypeError(f"{call!r} has no name: say method(name=…)")
    return cast(str, name)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _parts_of(hint: object) -> Iterator[object]:
    """A type, and those that it is written with."""
    yield hint
    for part in typing.get_args(hint):
        yield from _parts_of(part)


def _is_pydantics(part: object) -> bool:
    """Whether it asks for what only pydantic checks: one of its dataclasses, or what it finds in an Annotated, as its PositiveInt is."""
    if isinstance(part, type):
        return dataclasses.is_dataclass(part) and hasattr(part, "__pydantic_validator__")
    return type(part).__module__.partition(".")[0] in {"pydantic", "annotated_types"}


def _schema_of(hint: object, prefix: str = "") -> tuple[dict[str, object], dict[str, object]]:
    """A type's JSON Schema, and the definitions it refers to, whose names begin with `prefix`."""
    defined: dict[str, object] = {}
    models: dict[str, type] = {}

    def of_model(kind: type) -> dict[str, object]:
        if kind is object:
            return {"description": "Any JSON."}
        if not issubclass(kind, _Model):
            raise NotImplementedError
        label = f"{prefix}{_URI_UNFIT.sub('_', kind.__name__)}"
        while models.setdefault(label, kind) is not kind:
            label += "_"
        schema = kind.model_json_schema(ref_template=f"#/$defs/{label}.{{model}}")
        for name, inner in cast("dict[str, object]", schema.pop("$defs", {})).items():
            defined[f"{label}.{name}"] = inner
        return schema

    (schema,), named = msgspec.json.schema_components([hint], schema_hook=of_model, ref_template=f"#/$defs/{prefix}{{name}}")
    return schema, {**{f"{prefix}{name}": each for name, each in named.items()}, **defined}


def _default_of(value: object) -> dict[str, object]:
    """What the schema says of a default: nothing where JSON cannot."""
    try:
        text = result_text(value)
    except (TypeError, ValueError):
        return {}
    return {"default": msgspec.json.decode(text)}


def _from_json(kind: type, value: object) -> object:
    """For msgspec: a value of a type it does not know itself."""
    # From its text: a strict model takes a date from JSON, and from Python none but a date.
    return kind.model_validate_json(msgspec.json.encode(value)) if issubclass(kind, _Model) else value


def _to_json(value: object) -> object:
    """For msgspec: something it can write instead."""
    if isinstance(value, _Model) and not isinstance(value, type):
        return value.model_dump(mode="json", by_alias=True)
    if isinstance(value, str):  # msgspec takes no kinds of these three, such as numpy's float64
        return str.__str__(value)
    if isinstance(value, float | int):
        return float.__float__(value) if isinstance(value, float) else int.__int__(value)
    if inspect.iscoroutine(value):
        value.close()
        raise TypeError(
            "a coroutine, which nobody awaited, has no form in JSON; is what decorates the function an `async def` too?"
        )
    kind = type(value)
    raise TypeError(f"a {kind.__module__}.{kind.__qualname__} has no form in JSON")


_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ENCODER: Final = msgspec.json.Encoder(enc_hook=_to_json)


def _param_errors(name: str, error: msgspec.ValidationError) -> list[ParamError]:
    """What msgspec found, its path made a JSON Pointer into the params; where pydantic found several things, each of them."""
    message, where = str(error), ""
    if at := _AT.search(message):
        message, where = f"{'Of a key: ' if at[1] else ''}{message[: at.start()]}", at[2]
    where, unnamed, _ = where.partition(_UNNAMED)
    if unnamed:
        message = f"Of a member: {message}"
    path: tuple[object, ...] = (name,)
    for step in _STEP.finditer(where):
        path += (step[1] or step[2],)
    listed = getattr(error.__cause__, "errors", None)
    if not callable(listed):
        return [ParamError(pointer(path), _short(message))]
    errors: list[ParamError] = []
    for each in cast(_Errors, error.__cause__).errors():
        inner = () if unnamed else cast("tuple[object, ...]", each["loc"])
        errors.append(ParamError(pointer((*path, *inner)), _short(str(each["msg"]))))
    return errors


def _short(message: str) -> str:
    line = message.partition("\n")[0]
    return line if len(line) <= 200 else f"{line[:199]}…"


def _holds_nan(value: object) -> bool:
    """Whether a number in there is none. msgspec writes null for it, and a null is something else to a caller."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_holds_nan, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return any(map(_holds_nan, value))
    if value is None or isinstance(value, str | bytes | int | msgspec.Raw):
        return False
    return _holds_nan(msgspec.to_builtins(value, enc_hook=_to_json))
