"""stdin, stdout and stderr where there is nothing behind them: closed by whoever started us, gone meanwhile, or on a full disk."""

import os
import sys


def open_streams() -> None:
    """What we were started without is nowhere. A socket would else take its number, and be written to by whoever prints."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115  # it stays open


def leave_stdout() -> None:
    """Write no more there: what is still held back would be tried once more at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
