"""What is said to one peer until its socket takes it: coalesced, bounded in bytes, in order.

All that is said to one peer within one turn of the loop leaves as one ZeroMQ message. That is worth more than anything else done
here for speed; but a message without end would be taken apart in one go at the other side too, so a large one is cut.
"""

from collections import deque

from homing.core import codec

CUT_FRAMES = 1 + 2 * 256  # the tag and pairs; at this length a ZeroMQ message is closed and the next begun
CUT_BYTES = 64 * 1024
HELD_BYTES_MAX = 32 * 1024 * 1024  # of one peer that does not read, beyond what the socket holds for it


class Outbox:
    """ZeroMQ messages for one peer, each a list of frames, and the one that still grows."""

    __slots__ = ("_closed", "_open", "_open_bytes", "held_bytes")

    def __init__(self) -> None:
        self.held_bytes = 0
        self._closed: deque[tuple[list[bytes], int]] = deque()
        self._open: list[bytes] = [codec.TAG]
        self._open_bytes = 0

    def add(self, header: bytes, body: bytes) -> bool:
        """Say this too. False: too much is held already, and it is not."""
        size = len(header) + len(body)
        if self.held_bytes and self.held_bytes + size > HELD_BYTES_MAX:
            return False
        frames = self._open
        frames.append(header)
        frames.append(body)
        self._open_bytes += size
        self.held_bytes += size
        if len(frames) >= CUT_FRAMES or self._open_bytes >= CUT_BYTES:
            self._close()
        return True

    def add_frames(self, frames: list[bytes]) -> bool:
        """Say this as a ZeroMQ message of its own. False: too much is held already, and it is not."""
        size = sum(map(len, frames))
        if self.held_bytes and self.held_bytes + size > HELD_BYTES_MAX:
            return False
        if len(self._open) > 1:
            self._close()
        self._closed.append((frames, size))
        self.held_bytes += size
        return True

    def first(self) -> list[bytes] | None:
        """What leaves next; asked again, the same."""
        if not self._closed:
            if len(self._open) == 1:
                return None
            self._close()
        return self._closed[0][0]

    def left(self) -> None:
        """`first` is on its way."""
        self.held_bytes -= self._closed.popleft()[1]

    def clear(self) -> None:
        """Nobody is there to say it to."""
        self._closed.clear()
        self._open, self._open_bytes = [codec.TAG], 0
        self.held_bytes = 0

    def _close(self) -> None:
        self._closed.append((self._open, self._open_bytes))
        self._open, self._open_bytes = [codec.TAG], 0
