"""What holds of every test of the whole: no callback of the loop raises, whatever callers and providers do."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _nothing_breaks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    broken = [record for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert not broken, "\n".join(logging.Formatter().format(record) for record in broken)
