"""`asking`: a question to another process of the house."""

import asyncio
from pathlib import Path

import pytest

from homing.edges import rpc
from homing.edges.http import Exchange, Listener, ListenerLimits
from homing.roles.asking import Said, ask
from tests.loops import on_both_loops


@on_both_loops
async def test_whoever_listens_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path has at most some hundred bytes

    def answer(exchange: Exchange) -> None:
        exchange.answer(503, [(b"Content-Type", b"text/plain")], f"{exchange.path}?{exchange.query}".encode() * 10_000)

    listener = Listener(answer, ListenerLimits(), refusal=rpc.refusal)
    await listener.start_unix("admin")
    assert await ask("admin", "/readyz?verbose", within_s=10) == Said(503, b"/readyz?verbose" * 10_000)
    await listener.close(1.0)
    assert await ask("admin", "/readyz") is None
    assert await ask("nothing", "/readyz") is None


@on_both_loops
async def test_who_says_nothing_whole_has_said_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    says = {
        "silent": None,
        "closed": b"",
        "torn": b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nhalf",
        "strange": b"220 mail.example ESMTP\r\n",
        "unnumbered": b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
    }
    held: list[asyncio.StreamWriter] = []
    for name, text in says.items():

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: bytes | None = text) -> None:
            await reader.readuntil(b"\r\n\r\n")
            held.append(writer)
            if text is not None:
                writer.write(text)
                writer.close()

        async with await asyncio.start_unix_server(serve, name):
            assert await ask(name, "/readyz", within_s=10 if text is not None else 0.01) is None
    for writer in held:
        writer.close()
