"""`homing call --batch`: many calls from a file, so many at once, answered in the file's order, and summed up at the end."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
import msgspec

from homing.cli.call import ClientOptions, check_key, check_params, error_object, in_options, plain, read_file
from homing.cli.streams import leave_stdout
from homing.client import AsyncClient
from homing.errors import ROWS, CallError, OutcomeUnknown

_PROBLEMS_MAX = 20
_LINES_NAMED_MAX = 50
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Line(msgspec.Struct, frozen=True):
    """One call of the file. `number` counts from 1, empty lines too."""

    number: int
    method: str
    params: msgspec.Raw | None = None
    idempotency_key: str | None = None
    timeout: float | None = None


class _Spelled(msgspec.Struct, forbid_unknown_fields=True):
    """A line that names its own method."""

    method: str
    params: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    idempotency_key: str | None = None
    timeout: float | None = None


def read_lines(path: str, method: str | None) -> list[Line]:
    """Every call of a file, before any is made. Exits with 2 when it cannot be read, or for lines that are no calls."""
    lines: list[Line] = []
    problems: list[str] = []
    for number, text in enumerate(read_file(path).removeprefix(_BYTE_ORDER_MARK).split(b"\n"), 1):
        if not text.strip():
            continue
        try:
            lines.append(_line(number, text.strip(), method))
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    if problems:
        more = f"\n… and {len(problems) - _PROBLEMS_MAX} lines more" if len(problems) > _PROBLEMS_MAX else ""
        click.echo("\n".join(problems[:_PROBLEMS_MAX]) + more, err=True)
        click.echo("Nothing was sent.", err=True)
        raise SystemExit(2)
    return lines


def _line(number: int, text: bytes, method: str | None) -> Line:
    if method is not None:
        return Line(number, method, check_params(text))
    check_params(text)
    try:
        spelled = msgspec.json.decode(text, type=_Spelled)
    except msgspec.DecodeError as error:
        raise ValueError(f'{error}; without METHOD a line is {{"method": …, "params": …}}') from None
    params = None if isinstance(spelled.params, msgspec.UnsetType) else check_params(bytes(spelled.params))
    if spelled.timeout is not None and not spelled.timeout > 0:
        raise ValueError("timeout is a positive number of seconds")
    if spelled.idempotency_key is not None:
        check_key(spelled.idempotency_key)
    return Line(number, spelled.method, params, spelled.idempotency_key, spelled.timeout)


class Run:
    """The calls of a file: which are to come, under way and done. Prints what is done in the file's order."""

    def __init__(self, lines: list[Line], write: Callable[[bytes], None]) -> None:
        self.lines = lines
        self.ok = 0
        self.errors: dict[str, Counter[str]] = {"no": Counter(), "unknown": Counter(), "yes": Counter()}
        self.uncertain: list[int] = []  # numbers of the lines whose outcome is unknown
        self._write = write
        self._stopped = False
        self._begun = 0
        self._printed = 0
        self._answers: dict[int, bytes] = {}  # by index, until those before are printed

    @property
    def done(self) -> int:
        return self.ok + self.failures

    @property
    def failures(self) -> int:
        return sum(counter.total() for counter in self.errors.values())

    @property
    def not_sent(self) -> int:
        return len(self.lines) - self._begun

    def begin(self) -> tuple[int, Line] | None:
        """The next call to make."""
        if self._stopped or self._begun == len(self.lines):
            return None
        self._begun += 1
        return self._begun - 1, self.lines[self._begun - 1]

    def finish(self, index: int, answer: bytes | CallError) -> None:
        """Note one answer, and print all that need not wait for an earlier line any more."""
        number = self.lines[index].number
        if isinstance(answer, CallError):
            self.errors[answer.executed][answer.reason] += 1
            if answer.executed == "unknown":
                self.uncertain.append(number)
            self._answers[index] = b'{"line":%d,"error":%s}' % (number, msgspec.json.encode(error_object(answer)))
        else:
            self.ok += 1
            self._answers[index] = b'{"line":%d,"result":%s}' % (number, msgspec.json.format(answer, indent=-1))
        while self._printed in self._answers:
            self._printed += 1
            self._print(self._answers.pop(self._printed - 1))

    def _print(self, text: bytes) -> None:
        """Print one answer. When they reach nobody any more (`| head`, a full disk), no further call is made: it would leave no trace."""
        if self._stopped:
            return
        try:
            self._write(text)
        except OSError as error:
            self._stopped = True
            leave_stdout()
            if not isinstance(error, BrokenPipeError):
                click.echo(f"The answers cannot be written: {(error.strerror or str(error)).lower()}.", err=True)

    def interrupt(self) -> None:
        """Everything under way ends here, and nobody knows how it ends over there."""
        message = "Interrupted before the answer came."
        data = {"reason": "cancelled", "executed": "unknown", "retry": "unsafe"}
        for index in range(self._printed, self._begun):
            if index not in self._answers:
                self.finish(index, OutcomeUnknown(ROWS["cancelled"].code, message, data))


def call_all(lines: list[Line], options: ClientOptions, parallel: int, *, as_json: bool) -> bool:
    """Make all calls; print their answers to stdout and a summary to stderr. True if one failed or was not made."""
    try:
        client = AsyncClient(**options)
    except ValueError as error:
        raise click.UsageError(in_options(str(error))) from None
    began = time.monotonic()
    with _printer(len(lines)) as (write, advance):
        run = Run(lines, write)
        try:
            asyncio.run(_call_all(run, client, parallel, advance))
        except KeyboardInterrupt:
            run.interrupt()
    seconds = time.monotonic() - began
    click.echo(msgspec.json.encode(_counts(run, seconds)) if as_json else _summary(run, seconds), err=True)
    return run.failures > 0 or run.not_sent > 0


async def _call_all(run: Run, client: AsyncClient, parallel: int, advance: Callable[[], None]) -> None:
    async def work() -> None:
        while (begun := run.begin()) is not None:
            index, line = begun
            answer: bytes | CallError
            try:
                answer = bytes(
                    await client.call(
                        line.method,
                        line.params,
                        timeout=line.timeout,
                        idempotency_key=line.idempotency_key,
                        result_type=msgspec.Raw,
                    )
                )
            except CallError as error:
                answer = error
            run.finish(index, answer)
            advance()

    async with client, asyncio.TaskGroup() as group:
        for _ in range(min(parallel, len(run.lines))):
            group.create_task(work())


@contextmanager
def _printer(total: int) -> Iterator[tuple[Callable[[bytes], None], Callable[[], None]]]:
    """How to print a line of answers, and how to move the progress bar, which there is only on a terminal."""
    if not sys.stderr.isatty():
        yield click.echo, lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("calling"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as progress:
        bar = progress.add_task("", total=total)
        # Where both are the same terminal, the bar must make room for the lines.
        write = (lambda text: console.out(text.decode(), highlight=False)) if sys.stdout.isatty() else click.echo
        yield write, lambda: progress.advance(bar)


def _counts(run: Run, seconds: float) -> dict[str, object]:
    rate = run.done / seconds if seconds else 0.0
    return {
        "calls": len(run.lines),
        "ok": run.ok,
        **run.errors,
        "not_sent": run.not_sent,
        "unknown_lines": sorted(run.uncertain),
        "seconds": round(seconds, 3),
        "calls_per_second": round(rate, 1),
    }


def _summary(run: Run, seconds: float) -> str:
    rate = run.done / seconds if seconds else 0.0
    rows = [f"{run.done} of {len(run.lines)} calls in {seconds:.1f} s ({rate:.1f} calls/s): {run.ok} ok, {run.failures} not"]
    for executed, reasons in run.errors.items():
        if reasons:
            said = ", ".join(f"{plain(reason)} {count}" for reason, count in reasons.most_common())
            rows.append(f"  executed {executed + ':':<8} {reasons.total()} ({said})")
    if run.uncertain:
        named = ", ".join(map(str, sorted(run.uncertain)[:_LINES_NAMED_MAX]))
        more = f" and {len(run.uncertain) - _LINES_NAMED_MAX} more" if len(run.uncertain) > _LINES_NAMED_MAX else ""
        rows.append(f"  The provider may have carried out lines {named}{more}: look before you repeat them.")
    if run.not_sent:
        rows.append(f"  not sent: {run.not_sent}")
    return "\n".join(rows)
