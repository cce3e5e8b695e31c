"""Ask another process of this house: one GET over a socket in the file system, answered soon or not at all."""

import asyncio

import msgspec

PATIENCE_S = 0.5  # who does not answer a question about its health within this is not well


class Said(msgspec.Struct, frozen=True):
    """An answer: the HTTP status and the body."""

    status: int
    body: bytes


async def ask(path: str, target: str, *, within_s: float = PATIENCE_S) -> Said | None:
    """GET `target` from whoever listens on `path`; None if nobody does, or it says nothing whole in time."""
    try:
        async with asyncio.timeout(within_s):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                writer.write(f"GET {target} HTTP/1.1\r\nHost: homing\r\nConnection: close\r\n\r\n".encode())
                return _said(await reader.read(-1))
            finally:
                writer.transport.abort()
    except (OSError, TimeoutError):
        return None


def _said(data: bytes) -> Said | None:
    head, _, body = data.partition(b"\r\n\r\n")
    version, _, rest = head.partition(b" ")
    fields = head.lower().split(b"\r\n")
    if version != b"HTTP/1.1" or not rest[:3].isdigit() or f"content-length: {len(body)}".encode() not in fields:
        return None
    return Said(int(rest[:3]), body)
