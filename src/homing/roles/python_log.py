"""What functions of a Python worker log and print: lines of the worker's own log, whichever process they run in, and whole ones."""

import io
import logging
import sys
from typing import TYPE_CHECKING

from homing.calling import current_call

if TYPE_CHECKING:
    from homing.telemetry import LogHandler


def of_call(record: logging.LogRecord) -> bool:
    """A filter that lets everything through: the record knows the call in which it was made, if it was in one."""
    try:
        call = current_call()
    except LookupError:
        return True
    record.call_id, record.method = call.call_id, call.method
    return True


def log_calls() -> None:
    """From now on what is logged within a call says so."""
    for handler in logging.getLogger().handlers:
        handler.addFilter(of_call)


def print_lines() -> None:
    """From now on a line that is printed leaves at once and whole: processes share where it goes, and any may be killed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True, write_through=False)


class ChildHandler(logging.Handler):
    """Writes lines as the worker does, at once, for the process may not live to see its next call."""

    def __init__(self) -> None:
        super().__init__()
        self._writer: LogHandler | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """One record."""
        if self._writer is None:
            from homing.telemetry import Log, LogHandler  # noqa: PLC0415  # takes 50 ms, and most functions never log

            self._writer = LogHandler(Log(at_once=True))
        self._writer.emit(record)


def take_logging(handler: logging.Handler) -> None:
    """What is logged comes out here instead of as bare text. What a program has sent elsewhere, as to a file, goes on to be."""
    root = logging.getLogger()
    for each in root.handlers[:]:
        if type(each) is logging.StreamHandler:  # as `basicConfig` makes it, which `logging.warning` calls by itself
            root.removeHandler(each)
    root.addHandler(handler)


def log_in_child(*, own_log: bool) -> None:
    """From now on this process logs as the worker does. With `own_log` what the program has set up itself stays."""
    if own_log:
        logging.basicConfig(handlers=[ChildHandler()])
    else:
        take_logging(ChildHandler())
    log_calls()
