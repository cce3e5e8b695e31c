"""A small program for a supervisor to run: it is ready when its book says so, and writes down what it lives through.

`puppet.py ROLE INDEX ADMIN FOLDER`. The book is FOLDER/book.json: by role, or by role and index ("worker 1"), {"exit": CODE} leaves at
once, {"unready": true} is never ready, {"stubborn": true} leaves only when it is killed, {"slow": true} when it is told a second time,
{"figures": TEXT} is what it counted.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path


def main() -> None:
    role, index, admin, folder = sys.argv[1:5]
    name = f"{role} {index}"
    book = json.loads((Path(folder) / "book.json").read_text())
    page = book.get(name) or book.get(role) or {}
    told = 0

    def note(event: str) -> None:
        line = json.dumps({"event": event, "who": name, "pid": os.getpid()}) + "\n"
        with (Path(folder) / "events.jsonl").open("a") as file:
            file.write(line)

    async def live() -> None:
        leave = asyncio.Event()

        def tell(number: signal.Signals) -> None:
            nonlocal told
            told += 1
            note(number.name)
            if not page.get("stubborn") and told > page.get("slow", False):
                leave.set()

        for number in (signal.SIGTERM, signal.SIGUSR1):
            asyncio.get_running_loop().add_signal_handler(number, tell, number)
        if "exit" in page:
            note("exit")
            sys.exit(page["exit"])

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            path = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1].decode()
            ready = not page.get("unready") and not told
            if path == "/metrics":
                body = page.get("figures", "")
            elif path.endswith("?verbose"):
                body = json.dumps({"told": told})
            else:
                body = "word\n"
            status = "200 OK" if ready or path == "/metrics" else "503 Service Unavailable"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
            writer.close()

        async with await asyncio.start_unix_server(answer, admin):
            note("started")
            await leave.wait()
        note("left")

    asyncio.run(live())


if __name__ == "__main__":
    main()
