"""A whole process for a test: gateway, broker, worker and a provider whose every answer the test decides, on real sockets.

The loop runs in a thread of its own, so that callers nobody here wrote (curl, http.client, node) can be used as they are.
"""

import asyncio
import contextlib
import http.client
import json
import os
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from homing import config
from homing.edges import rpc
from homing.edges.http import Exchange, Listener, ListenerLimits
from homing.roles.process import new_loop
from homing.roles.serve import OneProcess
from homing.telemetry import Log

JSON = [(b"Content-Type", b"application/json")]


@dataclass
class Asked:
    """One request as the provider read it: it is in the log before anything is answered."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Answer:
    """What the provider says. `drop` resets the connection; `after_s` waits; `never` does neither."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    drop: bool = False
    never: bool = False


Provide = Callable[[Asked], Answer]


class ScriptedProvider:
    """A provider that logs every request and answers as `provide` says."""

    def __init__(self, provide: Provide) -> None:
        self.provide = provide
        self.log: list[Asked] = []
        self.port = 0
        self.listener = Listener(self._answer, ListenerLimits(idle_timeout_s=300.0), refusal=rpc.refusal)

    def _answer(self, exchange: Exchange) -> None:
        headers = {name.decode(): value.decode("latin-1") for name, value in exchange.headers}
        asked = Asked(exchange.method, exchange.path, exchange.query, headers, exchange.body)
        self.log.append(asked)
        answer = self.provide(asked)
        if answer.never:
            return
        asyncio.get_running_loop().call_later(answer.after_s, self._say, exchange, answer)

    def _say(self, exchange: Exchange, answer: Answer) -> None:
        if exchange.gone:
            return
        if answer.drop:
            exchange.connection.reset()
            return
        body = answer.body if isinstance(answer.body, bytes) else b"" if answer.body is None else json.dumps(answer.body).encode()
        extra = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        exchange.answer(answer.status, [*JSON, *extra], body)


@dataclass
class Reply:
    """What a caller got."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def result(self) -> Any:
        assert "result" in self.json, self.json
        return self.json["result"]

    @property
    def error(self) -> Any:
        assert "error" in self.json, self.json
        return self.json["error"]

    @property
    def data(self) -> Any:
        return self.error["data"]


class Serving:
    """Runs a configuration. `{provider}` in its text is the scripted provider's address."""

    def __init__(
        self, text: str, folder: Path, provide: Provide = lambda asked: Answer(body={}), environ: dict[str, str] | None = None
    ) -> None:
        self._text = text if "[admin]" in text else text + '\n[admin]\nlisten = "127.0.0.1:0"\n'  # tests run side by side
        self._folder = folder
        self._environ = environ or {}
        self.provider = ScriptedProvider(provide)
        self.process: OneProcess
        self.loop: asyncio.AbstractEventLoop
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._log_fd = os.open(folder / "log.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(20)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        if self._failure is None and self._thread.is_alive():
            self.stop_soon()
            self.stop_soon()
        self.join()
        os.close(self._log_fd)

    def join(self) -> None:
        """Until the process has stopped."""
        self._thread.join(20)
        assert not self._thread.is_alive()

    def stop_soon(self) -> None:
        """As SIGTERM does."""
        with contextlib.suppress(RuntimeError):  # it has just stopped by itself
            self.loop.call_soon_threadsafe(self.process.stop_soon)

    def on_loop(self, make: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Run something where the process runs."""
        return asyncio.run_coroutine_threadsafe(make(), self.loop).result(20)

    @property
    def port(self) -> int:
        return self.process.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.process.port}"

    def call(self, method: str, params: Any = None, *, id: Any = 1, **headers: str) -> Reply:
        """One call; headers are given as `Homing_Timeout="1"`."""
        body: dict[str, Any] = {"jsonrpc": "2.0", "id": id, "method": method}
        if params is not None:
            body["params"] = params
        return self.post(json.dumps(body).encode(), **headers)

    def post(self, body: bytes, path: str = "/rpc", **headers: str) -> Reply:
        """One body as it is."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("POST", path, body, {"Content-Type": "application/json", **named})

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None, port: int | None = None
    ) -> Reply:
        """Anything a caller may send."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.process.port, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()

    def log_lines(self) -> list[Any]:
        """What was logged so far."""
        text = (self._folder / "log.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self.loop = asyncio.get_running_loop()
        log = Log(self._log_fd, human=False)
        try:
            port = self.provider.port = await self.provider.listener.start("127.0.0.1", 0)
            path = self._folder / "homing.toml"
            path.write_text(self._text.replace("{provider}", f"http://127.0.0.1:{port}"))
            reading = config.read(path, listen="127.0.0.1:0", environ=self._environ)
            self.process = OneProcess(config.usable(reading), reading.methods, log=log)
            await self.process.start()
        except BaseException as error:
            self._failure = error
            self._ready.set()
            log.close()
            await self.provider.listener.close(0.0)
            return
        self._ready.set()
        await self.process.stopping.wait()
        await self.process.stop()
        await self.provider.listener.close(0.2)
        log.close()
