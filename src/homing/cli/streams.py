"""stdin, stdout and stderr where there is nothing behind them: closed by whoever started us, gone meanwhile, or on a full disk."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

EXIT_UNWRITTEN = 1
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def open_streams() -> None:
    """What we were started without is nowhere. A socket would else take its number, and be written to by whoever prints."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  # it stays open
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does where a terminal has not all characters


def leave_stdout() -> None:
    """Write no more there: what is still held back would be tried once more at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


@contextmanager
def full_disk_told() -> Iterator[None]:
    """That its words do not fit onto a disk is no fault of a command's."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        leave_stdout()
        click.echo(f"Not all could be written: {os.strerror(error.errno).lower()}.", err=True)
        raise SystemExit(EXIT_UNWRITTEN) from None
