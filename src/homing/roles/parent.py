"""The pipe between a supervisor and its children: nothing is ever written to it, and its end says that the supervisor is gone.

The kernel closes it however the supervisor ended, SIGKILL included, and unlike a signal on a parent's death it cannot come before
anybody listens.
"""

import asyncio
import os
from collections.abc import Callable


class ParentWatch:
    """Calls `gone` once when whoever holds the other end of the pipe `fd` has left. `close` stops watching."""

    def __init__(self, fd: int, gone: Callable[[], object]) -> None:
        self._fd = fd
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        os.set_blocking(fd, False)
        self._loop.add_reader(fd, self._readable)

    def close(self) -> None:
        """Watch no longer; the pipe is closed."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _readable(self) -> None:
        try:
            read = os.read(self._fd, 64)
        except BlockingIOError:  # all children hold this end, and another one was quicker
            return
        if not read:
            self.close()
            self._gone()
