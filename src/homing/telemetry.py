"""What a process tells its operators: one log line a call, counters, durations. Params, results and keys are never among it.

Lines are encoded as they happen and written by a thread of their own, for whoever reads the log may stop reading, and callers must
not wait for that. What does not fit is dropped and counted.
"""

import logging
import os
import queue
import signal
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from homing.errors import Outcome

BUFFER_BYTES_MAX = 64 * 1024 * 1024
BUCKETS_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 90.0, 120.0, 300.0)
METRICS_CONTENT_TYPE = CONTENT_TYPE_LATEST


class CallLine(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """One settled call, as the log has it. Times are milliseconds."""

    time: str
    event: str
    call_id: str
    method: str
    reason: str
    executed: str
    duration_ms: float
    principal: str = ""
    attempts: int = 0
    status: int | None = None
    abandoned: bool = False
    notification: bool = False


class Log:
    """Structured lines on one file descriptor: JSON, or for people if it is a terminal.

    `who` are fields that all events have, for lines of several processes on one descriptor. Calls, which have their id, do without.
    `at_once` is for a process that may wait for its reader: each line is written where it is told, and there is no thread.
    """

    def __init__(self, fd: int = 2, *, human: bool | None = None, at_once: bool = False) -> None:
        self.human = os.isatty(fd) if human is None else human
        self.dropped = 0
        self.who: dict[str, object] = {}
        self._color = self.human and "NO_COLOR" not in os.environ
        self._fd = fd
        self._encode = msgspec.json.Encoder().encode
        self._pending: list[bytes] = []
        self._chunks: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._queued_bytes = 0
        self._wake: Callable[[], object] | None = None
        self._woken = 0  # the thread on which `_wake` is called
        self._second = self._now_ms = 0
        self._second_text = self._stamp = ""
        self._writer: threading.Thread | None = None
        if not at_once:
            self._writer = threading.Thread(target=self._write, name="log", daemon=True)
            self._writer.start()

    def flush_with(self, soon: Callable[[], object] | None) -> None:
        """`soon` is called once after the first line since the last `flush`, and should see to it that `flush` is called.

        It is called on this thread only; what other threads tell is written without it.
        """
        self._wake, self._woken = soon, threading.get_ident()

    def call(
        self,
        call_id: str,
        method: str,
        principal: str,
        outcome: Outcome,
        duration_s: float,
        *,
        abandoned: bool = False,
        notification: bool = False,
    ) -> None:
        """The line of one settled call."""
        line = CallLine(
            self._now(),
            "call",
            call_id,
            method,
            outcome.reason,
            outcome.executed,
            int(duration_s * 10_000 + 0.5) / 10,  # as `round` would, for a tenth of its price
            principal,
            len(outcome.attempts),
            outcome.status,
            abandoned,
            notification,
        )
        pending = self._pending
        pending.append(self._for_people(line) if self.human else self._encode(line))
        if len(pending) == 1 or self._wake is None:
            self._added()

    def event(self, event: str, message: str, *, level: str = "info", **fields: object) -> None:
        """Anything else that operators should know."""
        fields = {**self.who, **fields}
        if self.human:
            rest = " ".join(f"{name}={_shown(value)}" for name, value in fields.items())
            mark = {"warning": "\x1b[33m", "error": "\x1b[31m"}.get(level, "") if self._color else ""
            end = "\x1b[0m" if mark else ""
            self._add(f"{self._now()[11:19]} {mark}{message}{end} {rest}".rstrip().encode(errors="replace"))
            return
        line = {"time": self._now(), "level": level, "event": event, "message": message, **fields}
        try:
            self._add(self._encode(line))
        except (UnicodeEncodeError, TypeError):  # a file's name that is no UTF-8, say, in what somebody's function raised
            self._add(self._encode({name: _told(value) for name, value in line.items()}))

    def flush(self) -> None:
        """Hand what is pending to the writer."""
        if not self._pending:
            return
        count, chunk = len(self._pending), b"\n".join(self._pending) + b"\n"
        self._pending = []
        self._hand(chunk, count)

    def _hand(self, chunk: bytes, count: int) -> None:
        size = len(chunk)
        if self._writer is None or not self._writer.is_alive():  # in a fork there is no such thread
            self._put(chunk)
        elif self._queued_bytes + size > BUFFER_BYTES_MAX:
            self.dropped += count
        else:
            self._queued_bytes += size
            self._chunks.put(chunk)

    def close(self) -> None:
        """Write what is left, waiting at most a second for a reader that has stopped."""
        self._wake = None
        self.flush()
        if self._writer is not None:
            self._chunks.put(None)
            self._writer.join(timeout=1.0)

    def _add(self, line: bytes) -> None:
        elsewhere = threading.get_ident() != self._woken or not (self._writer is None or self._writer.is_alive())
        if self._wake is not None and elsewhere:  # whoever flushes is on a loop, where this thread is not, nor a fork
            self._hand(line + b"\n", 1)
            return
        self._pending.append(line)
        if len(self._pending) == 1 or self._wake is None:
            self._added()

    def _added(self) -> None:
        if self._wake is not None:
            self._wake()
        else:
            self.flush()

    def _write(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the main thread's, which may hold them back
        while (chunk := self._chunks.get()) is not None:
            self._put(chunk)
            size = len(chunk)  # said first, for between the look at a number and its change no other thread may come
            self._queued_bytes -= size

    def _put(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:  # the reader is gone: nobody is left to tell
            self.dropped += 1

    def _now(self) -> str:
        now_ms = int(time.time() * 1000)
        if now_ms != self._now_ms:  # when much happens, several lines share a millisecond
            second, ms = divmod(now_ms, 1000)
            if second != self._second:
                self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
                self._second = second
            self._stamp = f"{self._second_text}.{ms:03d}Z"
            self._now_ms = now_ms  # last, for another thread may look
        return self._stamp

    def _for_people(self, line: CallLine) -> bytes:
        good = line.reason == "ok"
        mark = ("\x1b[32m" if good else "\x1b[33m" if line.executed == "no" else "\x1b[31m") if self._color else ""
        end = "\x1b[0m" if mark else ""
        executed = "" if good else f" executed: {line.executed}"
        attempts = f" {line.attempts} attempts" if line.attempts > 1 else ""
        who = f" {line.principal}" if line.principal else ""
        gone = " (caller gone)" if line.abandoned else ""
        what = f"{line.time[11:23]} {line.method} {mark}{line.reason}{end}{executed}"
        return f"{what} {line.duration_ms:g} ms{attempts}{who}{gone} {line.call_id}".encode(errors="replace")


def _shown(value: object) -> str:
    """The value as a terminal can have it: somebody else may have made it up, a method's name say."""
    text = str(value)
    return text if text.isprintable() else repr(text)


def _told(value: object) -> object:
    """The value as every reader of the log can have it."""
    return value if value is None or isinstance(value, int | float) else str(value).encode(errors="replace").decode()


class LogHandler(logging.Handler):
    """Lets what libraries log through the standard module come out as lines of ours. Which levels those are, the loggers say."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """One record, its traceback included, and the call in which it was made if it knows one."""
        try:
            text = record.getMessage()
        except Exception as error:  # nobody breaks off for what cannot be told
            text = f"A line that {record.pathname}:{record.lineno} logs cannot be put together: {error!r}"
        if record.exc_info:
            text += "\n" + logging.Formatter().formatException(record.exc_info)
        known = {name: record.__dict__[name] for name in ("call_id", "method") if name in record.__dict__}
        self._log.event("log", text, level=record.levelname.lower(), logger=record.name, **known)


class Metrics:
    """Counters that cost a dictionary look-up, read only when somebody asks for them."""

    def __init__(self) -> None:
        self.calls: dict[tuple[str, str, str], int] = {}
        self.durations: dict[str, list[float]] = {}
        self.gauges: dict[str, tuple[str, Callable[[], float | dict[str, float]]]] = {}
        self.counters: dict[str, tuple[str, Callable[[], float | Mapping[str, float]]]] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def count(self, method: str, outcome: Outcome, duration_s: float) -> None:
        """One settled call. Unknown methods are counted under "", or callers could make names without end."""
        key = (method, outcome.reason, outcome.executed)
        self.calls[key] = self.calls.get(key, 0) + 1
        buckets = self.durations.get(method)
        if buckets is None:
            buckets = self.durations[method] = [0.0] * (len(BUCKETS_S) + 2)
        buckets[bisect_left(BUCKETS_S, duration_s)] += 1
        buckets[-1] += duration_s

    def gauge(self, name: str, meaning: str, read: Callable[[], float | dict[str, float]]) -> None:
        """A value read when asked for; a dict gives one for each `name`."""
        self.gauges[name] = (meaning, read)

    def counter(self, name: str, meaning: str, read: Callable[[], float | Mapping[str, float]]) -> None:
        """A count that something else keeps; a mapping gives one for each `name`."""
        self.counters[name] = (meaning, read)

    def exposition(self) -> bytes:
        """The Prometheus text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """For the registry."""
        calls = CounterMetricFamily("homing_calls", "Settled calls.", labels=("method", "reason", "executed"))
        for labels, count in self.calls.items():
            calls.add_metric(labels, count)
        yield calls
        yield self._histogram()
        for name, (meaning, read) in self.gauges.items():
            yield from _gauge(name, meaning, read())
        for name, (meaning, read_count) in self.counters.items():
            yield _counter(name, meaning, read_count())

    def describe(self) -> Iterable[Metric]:
        """For the registry: nothing is known before it is asked for."""
        return []

    def _histogram(self) -> HistogramMetricFamily:
        family = HistogramMetricFamily("homing_call_duration_seconds", "From admission to settlement.", labels=("method",))
        for method, counts in self.durations.items():
            total = 0.0
            buckets: list[tuple[str, float]] = []
            for bound, count in zip((*BUCKETS_S, "+Inf"), counts, strict=False):
                total += count
                buckets.append((str(bound), total))
            family.add_metric([method], buckets, sum_value=counts[-1])
        return family


def _gauge(name: str, meaning: str, value: float | dict[str, float]) -> Iterator[Metric]:
    if isinstance(value, dict):
        family = GaugeMetricFamily(name, meaning, labels=("name",))
        for label, each in value.items():
            family.add_metric([label], each)
        yield family
    else:
        yield GaugeMetricFamily(name, meaning, value=value)


def _counter(name: str, meaning: str, value: float | Mapping[str, float]) -> CounterMetricFamily:
    if not isinstance(value, Mapping):
        return CounterMetricFamily(name, meaning, value=value)
    family = CounterMetricFamily(name, meaning, labels=("name",))
    for label, each in value.items():
        family.add_metric([label], each)
    return family


def to_stderr(*, human: bool | None = None) -> Log:
    """The log of a process: on standard error, whose reader may be a terminal."""
    sys.stderr.flush()
    return Log(2, human=human)
