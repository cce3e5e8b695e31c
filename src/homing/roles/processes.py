"""`homing serve --processes N`: gateways that share a socket, a broker, and workers, each a process of its own, and one over them all."""

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

import msgspec

from homing.config import Config
from homing.edges import rpc
from homing.edges.http import Exchange, Listener, ListenerLimits, tls_context
from homing.errors import failure
from homing.forms import IPC_PATH_BYTES_MAX, Address
from homing.roles import sockets, succession
from homing.roles.children import Command, Place
from homing.roles.notify import notify
from homing.roles.oversight import Oversight
from homing.roles.process import Unbound
from homing.roles.supervisor import LEAVING, Patience, Supervisor
from homing.roles.totals import Counted
from homing.telemetry import Log

IPC = "ipc://"
OVER_DRAIN_S = 10.0  # beyond what a child allows itself, before it is told again
FAREWELL_S = 0.1  # for callers who connected just when the last gateway left
SILENT_S = 1.0  # for those of them who have not said anything yet
COUNTED = "counted.json"
LONGEST = "gateway-999999"  # the name of a socket
REPLACED = {"gateway": signal.SIGUSR1}  # it stops accepting at once, for others do, and serves out whom it has


class Numbers(msgspec.Struct, frozen=True):
    """How many processes of each role; there is one broker. Without workers here, others have to dial in."""

    gateways: int
    workers: int

    def places(self) -> list[Place]:
        """One for each."""
        gateways = [Place("gateway", index) for index in range(self.gateways)]
        workers = [Place("worker", index) for index in range(self.workers)]
        return [Place("broker", 0), *workers, *gateways]


class Processes:
    """Everything of the process over the others. `port` and `admin_port` are the bound ones.

    What outlives every child belongs to this one: the sockets callers, gateways and workers connect to, the private folder for those
    that have a path, and the pipes whose ends tell the children that nobody is over them any more. Should this process die, they
    leave in the order in which it would have seen them off: each role also holds the pipes of those it needs to the end.
    """

    def __init__(self, config: Config, config_path: str, numbers: Numbers, *, log: Log) -> None:
        self._config = config
        self._config_path = config_path
        self._numbers = numbers
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._listener: Listener | None = None
        self._exchanging: asyncio.Task[None] | None = None
        estate = self._estate = succession.inherited(os.environ, os.getpid())
        self._folder = Path(estate.folder) if estate else _run_folder()
        try:
            self._endpoints = estate.endpoints if estate else self._named()
            self._sockets = self._inherit(estate) if estate else self._open()
            self._pipes = estate.pipes if estate else {role: os.pipe() for role in LEAVING}
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        self.port = sockets.port_of(self._sockets["gateway"][0])
        self.admin_port = sockets.port_of(self._sockets["admin"][0])
        environ = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        self.supervisor = Supervisor(
            numbers.places(),
            self._command,
            folder=self._folder,
            log=log,
            environ=environ,
            patience=self._patience(),
            farewell=REPLACED,
        )
        self._oversight = Oversight(self.supervisor)

    # what outlives the children

    def _open(self) -> dict[str, list[socket.socket]]:
        """Listen, but where a service manager has done it already. Raises OSError, and ValueError for what it did wrong."""
        opened = sockets.handed(os.environ, os.getpid())
        gateway, admin = self._config.gateway.listen, self._config.admin.listen
        try:
            for name, address in (("gateway", gateway), ("admin", admin)):
                if name not in opened:
                    opened[name] = _listening(address)
            for name, endpoints in self._endpoints.items():
                opened[name] = []
                for endpoint in endpoints:
                    opened[name].append(sockets.open_endpoint(endpoint))
        except BaseException:
            _close(opened)
            raise
        return opened

    def _inherit(self, estate: succession.Estate) -> dict[str, list[socket.socket]]:
        return {name: [socket.socket(fileno=fd) for fd in fds] for name, fds in estate.sockets.items()}

    def _named(self) -> dict[str, list[str]]:
        """Where ZeroMQ listens: the broker, for the processes of this house and perhaps for others, and gateways for Majordomo."""
        public, majordomo = self._config.broker.listen, self._config.gateway.majordomo
        private = f"{IPC}{self._folder / 'broker'}"
        return {"broker": [private, public] if public else [private], "majordomo": [majordomo] if majordomo else []}

    def _patience(self) -> Patience:
        drains = (self._config.gateway.drain, self._config.worker.drain)
        return Patience(drain_s=max(drain.delay + drain.timeout for drain in drains) + OVER_DRAIN_S)

    # what runs

    def _command(self, place: Place, admin: str) -> Command:
        """`-P`: a module that lies where this was started is not taken for one of ours."""
        arguments = [sys.executable, "-P", "-m", "homing", place.role, "--config", self._config_path, "--admin", f"unix:{admin}"]
        descriptors = [self._pipes[place.role][0]]
        arguments += ["--parent-fd", str(descriptors[0])]
        later = LEAVING[LEAVING.index(place.role) + 1 :]
        descriptors += [self._pipes[role][1] for role in later]
        if place.role == "broker":
            for endpoint in self._endpoints["broker"]:
                arguments += ["--listen", endpoint]
        else:
            share = self._numbers.gateways if place.role == "gateway" else self._numbers.workers
            arguments += ["--broker", self._endpoints["broker"][0], "--share", str(share)]
        if place.role == "gateway":
            for sock in self._sockets["gateway"]:
                descriptors.append(sock.fileno())
                arguments += ["--listen-fd", str(sock.fileno())]
        name = {"broker": "broker", "gateway": "majordomo"}.get(place.role, "")
        for endpoint, sock in zip(self._endpoints.get(name, ()), self._sockets.get(name, ()), strict=True):
            descriptors.append(sock.fileno())
            arguments += ["--opened", f"{endpoint}={sock.fileno()}"]
        return Command(tuple(arguments), tuple(descriptors))

    # from start to end

    async def run(self) -> int:
        """Until it is told to leave; the exit code."""
        await self._oversight.listener.start_on(self._sockets["admin"][0].dup())
        for sock in self._sockets["admin"][1:]:
            await self._oversight.listener.start_on(sock.dup())
        for number, heed in (
            (signal.SIGTERM, self.supervisor.stop_soon),
            (signal.SIGINT, self.supervisor.stop_soon),
            (signal.SIGHUP, self.supervisor.roll_soon),
            (signal.SIGUSR2, self._exchange_soon),
        ):
            self._loop.add_signal_handler(number, heed)
        succession.release_signals()  # an earlier life of this process may have held them back
        self._announce()
        try:
            await self._start()
            await self.supervisor.stopping.wait()
        finally:
            notify(os.environ, "STOPPING=1")
            await self._leave()
        return self.supervisor.exit_code

    def _announce(self) -> None:
        listen = msgspec.structs.replace(self._config.gateway.listen, port=self.port)  # the bound ones, for 0 is any
        admin = msgspec.structs.replace(self._config.admin.listen, port=self.admin_port)
        numbers = self._numbers
        message = f"homing listens on {listen}, admin on {admin}."
        self._log.event("listening", message, gateways=numbers.gateways, workers=numbers.workers, pid=os.getpid())

    async def _start(self) -> None:
        estate, counted = self._estate, self._folder / COUNTED
        if estate is not None and counted.exists():
            self.supervisor.totals.go_on(msgspec.json.decode(counted.read_bytes(), type=Counted))
            counted.unlink()
        await self.supervisor.start(estate.children if estate is not None else ())
        notify(os.environ, "READY=1")
        if estate is not None:
            self.supervisor.roll_soon()  # the children are still what was started before

    async def _leave(self) -> None:
        if self._exchanging is not None:
            self._exchanging.cancel()
            await asyncio.wait((self._exchanging,))
        await self.supervisor.stop(self._left)
        await self._oversight.listener.close(0.2)
        self._remove_paths()  # first, as another one may come once nobody listens
        _close(self._sockets)
        for pipe in self._pipes.values():
            for fd in pipe:
                os.close(fd)
        shutil.rmtree(self._folder)
        self._log.event("stopped", "Stopped.")

    def _remove_paths(self) -> None:
        """Remove those sockets that have a path; nobody else does."""
        for endpoint in (each for endpoints in self._endpoints.values() for each in endpoints):
            if endpoint.startswith(f"{IPC}/"):
                Path(endpoint.removeprefix(IPC)).unlink(missing_ok=True)

    async def _left(self, role: str) -> None:
        """Once the last gateway has left nobody accepts. Callers who had connected are told so, and then there is no socket."""
        if role != "gateway":
            return
        tls = self._config.gateway.tls
        context = tls_context(tls.cert, tls.key) if tls.cert else None
        listener = Listener(_draining, ListenerLimits(), refusal=rpc.refusal)
        listener.part()
        for sock in self._sockets.pop("gateway"):
            await listener.start_on(sock, tls=context)
        await asyncio.sleep(FAREWELL_S)
        await listener.close(SILENT_S)

    # another program

    def _exchange_soon(self) -> None:
        """Exchange the program of this process, and then its children, if the configuration on disk is one it can start with."""
        if self.supervisor.stopping.is_set() or (self._exchanging is not None and not self._exchanging.done()):
            return
        self._exchanging = asyncio.ensure_future(self._exchange())

    async def _exchange(self) -> None:
        arguments = (sys.executable, "-P", "-m", "homing", "check", "--config", self._config_path)
        pipe = asyncio.subprocess.PIPE
        try:
            trial = await asyncio.create_subprocess_exec(*arguments, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe)
        except OSError as error:
            why = f"{sys.executable}: {error.strerror or error}"
            self._log.event("not_exchanged", f"The new program cannot be run; this one stays. {why}", level="error")
            return
        said, also = await trial.communicate()
        if trial.returncode:
            why = (said + also).decode(errors="replace").strip()
            self._log.event("not_exchanged", f"The new program would not start; this one stays.\n{why}", level="error")
            return
        try:
            await succession.hold_signals()
            await self.supervisor.pause()
            if not self.supervisor.stopping.is_set():
                self._bequeath()
        except OSError as error:  # a disk that is full, an interpreter that has gone since
            why = error.strerror or str(error)
            self._log.event("not_exchanged", f"The program cannot be exchanged; this one stays. {why}", level="error")
        finally:
            succession.release_signals()

    def _bequeath(self) -> None:
        self._log.event("exchanging", "Exchanging the program of this process.", pid=os.getpid())
        children = [(child.known, child.leaving) for _, child in self.supervisor.children.values()]
        fds = {name: [sock.fileno() for sock in each] for name, each in self._sockets.items()}
        (self._folder / COUNTED).write_bytes(msgspec.json.encode(self.supervisor.totals.counted()))
        estate = succession.Estate(os.getpid(), str(self._folder), fds, self._endpoints, self._pipes, children)
        self._log.close()
        succession.bequeath(estate)


async def run_processes(config: Config, config_path: str, numbers: Numbers, log: Log) -> None:
    """Run all of it, on a loop that runs already. Raises Unbound if an address cannot be had, and SystemExit if nobody can start."""
    try:
        processes = Processes(config, config_path, numbers, log=log)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise Unbound(getattr(error, "errno", None), why) from None
    code = await processes.run()
    if code:
        raise SystemExit(code)


def _run_folder() -> Path:
    """A new folder for sockets, for us alone. Raises ValueError if their paths would be longer than the system takes."""
    above = tempfile.gettempdir()
    most = IPC_PATH_BYTES_MAX - len(f"/homing-12345678/{LONGEST}")
    if len(os.fsencode(above)) > most:
        where = f"the folder for temporary files, {above}, has too long a path for sockets in it, which is {most} bytes at most"
        raise ValueError(f"{where}; start with another one, such as TMPDIR=/var/tmp")
    return Path(tempfile.mkdtemp(prefix="homing-"))  # mode 0700


def _listening(address: Address) -> list[socket.socket]:
    try:
        return sockets.open_tcp(address.host, address.port)
    except OSError as error:
        raise OSError(error.errno, sockets.cannot_listen(address, error)) from None


def _draining(exchange: Exchange) -> None:
    outcome = failure("draining", "This process is leaving; ask again, and another one will answer.", executed="no")
    exchange.answer(*rpc.single(outcome, None, os.urandom(16).hex(), 0))


def _close(opened: dict[str, list[socket.socket]]) -> None:
    for each in opened.values():
        for sock in each:
            sock.close()
