"""The provider of the harness, a process of its own that nobody kills: it does what each request tells it to, and keeps the ledger.

python -m chaos.provider PORT LEDGER

`POST /METHOD/TOKEN?end=…&delay_ms=…`. An entry is in the ledger as soon as a request's head has been read, body or no body: whoever
says `executed: no` after that has lied, for a provider may act on the first byte it understands.
"""

import asyncio
import hashlib
import os
import sys
import time

import msgspec

from chaos.history import Entry

ENDS = ("ok", "reset", "hang", "half", "fail", "busy", "throttle", "refuse")
NOT_DONE = {"busy": 503, "throttle": 429, "refuse": 422}  # the provider's own word that it did nothing
HANG_S = 60.0
_HEADS_END = b"\r\n\r\n"


class Ledger:
    """Written line by line, at once; what is in it has happened."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, entry: Entry) -> None:
        """One line in one write."""
        os.write(self._file, msgspec.json.encode(entry) + b"\n")


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ledger: Ledger) -> None:
    """One connection, request after request."""
    try:
        while True:
            head = await reader.readuntil(_HEADS_END)
            if not await _answer(head, reader, writer, ledger):
                return
    except (asyncio.IncompleteReadError, ConnectionError):
        return
    finally:
        writer.close()


async def _answer(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ledger: Ledger) -> bool:
    line, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields if field)}
    target = line.split(" ")[1]
    path, _, query = target.partition("?")
    wishes = dict(pair.split("=", 1) for pair in query.split("&") if "=" in pair)
    _, method, token = path.split("/")
    end = wishes.get("end", "ok")
    at = time.monotonic()
    key = headers.get("idempotency-key", "")
    if end not in NOT_DONE:
        ledger.write(Entry(at, token, method, key))
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    if end not in NOT_DONE and key:
        ledger.write(Entry(at, token, method, key, hashlib.sha256(body).hexdigest()[:16]))
    await asyncio.sleep(int(wishes.get("delay_ms", "0")) / 1000)
    if end == "hang":
        await asyncio.sleep(HANG_S)
        return False
    if end == "reset":
        writer.transport.abort()
        return False
    status = NOT_DONE.get(end, 500 if end == "fail" else 200)
    text = msgspec.json.encode({"token": token})
    answer = b"HTTP/1.1 %d x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(text)) + text
    if end == "half":
        writer.write(answer[: len(answer) - 5])
        await writer.drain()
        return False
    writer.write(answer)
    await writer.drain()
    return True


async def main(port: int, path: str) -> None:
    """Serve until the process is ended."""
    ledger = Ledger(path)
    server = await asyncio.start_server(lambda reader, writer: serve(reader, writer, ledger), "0.0.0.0", port, backlog=4096)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
