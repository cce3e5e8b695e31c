"""The processes of one round: a provider, brokers, workers and gateways, each as an operator starts it, each with its cables."""

import asyncio
import os
import sys
import time
from pathlib import Path

from chaos import desk, keys
from chaos.configuration import STUCK, tables
from chaos.house import House
from chaos.island import Island
from chaos.links import Link
from chaos.ports import PortTaken, free_port, held, reachable, verbose
from chaos.processes import Process, Role, overlap_s
from chaos.shapes import Shape

ROOT = Path(__file__).resolve().parent.parent
LOOK_EVERY_S = 0.1
LAG_S = 0.02  # what is shorter is no standing still
FILES = {"worker": "homing.toml", "desk": "desk.toml"}  # who dials under a key of its own has a file of its own
LEAVING: tuple[Role, ...] = ("gateway", "house", "worker", "desk", "broker")


class Stage:
    """Everything of one round, in a folder of its own."""

    def __init__(self, folder: Path, shape: Shape, *, preload: str = "") -> None:
        self.folder = folder
        self.shape = shape
        self.ledger = folder / "ledger.jsonl"
        self.clock = folder / "clock"  # how far the wall clock of each role is off, where libfaketime is there
        self.links: list[Link] = []
        self.processes: list[Process] = []
        self.islands: list[Island] = []
        self.house: House | None = None
        self.keys: keys.Keys | None = None
        self.gateway_ports = [free_port() for _ in range(1 if shape.housed else shape.gateways)]
        self.client_urls: list[list[str]] = []  # what each client dials, over links of its own
        self._admin_ports: dict[str, int] = {}
        self._lags: list[tuple[float, float]] = []  # when this very process stood still
        self._provider_port = free_port()
        self._provider: asyncio.subprocess.Process | None = None
        self._preload = preload

    def of(self, role: Role) -> list[Process]:
        """All seats of a role."""
        return [process for process in self.processes if process.role == role]

    @property
    def gateways(self) -> list[Process]:
        """Who answers at `gateway_ports`."""
        return self.of("gateway") if self.house is None else [self.house]

    async def start(self) -> None:
        """Provider, brokers, workers, gateways; returns when every gateway answers. Raises PortTaken: another stage has other ports."""
        (self.folder / "stuck.py").write_text(STUCK)
        self.clock.write_text("+0")
        self._provider = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "chaos.provider", str(self._provider_port), str(self.ledger), cwd=ROOT
        )
        shape = self.shape
        broker_ports = [free_port() for _ in range(shape.brokers)]
        endpoints = [f"tcp://127.0.0.1:{port}" for port in broker_ports]
        if shape.curve:
            self.keys = keys.make(self.folder)
        listen = endpoints[0] if shape.housed else ""
        for name, file in FILES.items():
            (self.folder / file).write_text(tables(listen=listen, keys=self.keys, worker=name))
        if shape.housed:
            self._build_house()
        else:
            await self._seat_roles(endpoints, broker_ports)
        for seat in range(shape.desks):
            arguments = ["worker", "chaos.desk:worker", "--processes", "3", *await self._dials(f"desk {seat}", broker_ports)]
            self._seat("desk", seat, arguments)
        for number in range(shape.clients + shape.curve):  # one more, who has a key and no rights
            self.client_urls.append((await self._dials(f"client {number}", broker_ports))[1::2])
        for process in self.processes:
            await process.start()
        for process in self.processes:
            await process.started()
        for port in [self._provider_port, *self.gateway_ports]:
            await reachable(port)
        if self._provider.returncode is not None:
            raise PortTaken("somebody else listens where the provider should")
        if self.house is not None:
            await self.house.ready()

    async def _seat_roles(self, endpoints: list[str], broker_ports: list[int]) -> None:
        for seat, endpoint in enumerate(endpoints):
            self._seat("broker", seat, ["broker", "--listen", endpoint])
        for number in range(self.shape.islands):
            self.islands.append(Island(number + 1))
            self.islands[-1].make()
        for seat in range(self.shape.workers):
            island = self.islands[seat] if seat < len(self.islands) else None
            self._seat("worker", seat, ["worker", *await self._dials(f"worker {seat}", broker_ports, island)], island)
        for seat, port in enumerate(self.gateway_ports):
            arguments = ["gateway", "--listen", f"127.0.0.1:{port}", *await self._dials(f"gateway {seat}", broker_ports)]
            self._seat("gateway", seat, arguments)

    def _build_house(self) -> None:
        admin = self._admin_ports["house 0"] = free_port()
        arguments = ["--processes", str(self.shape.gateways), "--workers", str(self.shape.workers)]
        arguments += ["--listen", f"127.0.0.1:{self.gateway_ports[0]}", "--admin", f"127.0.0.1:{admin}"]
        self.house = House(arguments, admin, folder=self.folder, environ=self._environ("127.0.0.1"))
        self.processes.append(self.house)

    async def _dials(self, name: str, broker_ports: list[int], island: Island | None = None) -> list[str]:
        """A cable to each broker, and the options that name them."""
        host = "127.0.0.1" if island is None else island.here
        options: list[str] = []
        for number, port in enumerate(broker_ports):
            link = Link(f"{name} to broker {number}", port, host)
            await link.start()
            self.links.append(link)
            options += ["--broker", f"tcp://{host}:{link.port}"]
        return options

    def _seat(self, role: Role, seat: int, arguments: list[str], island: Island | None = None) -> None:
        host = "127.0.0.1" if island is None else island.here
        environ = self._environ(host, FILES.get(role, "homing.toml"))
        if island is None:  # on an island nobody could ask
            admin = self._admin_ports[f"{role} {seat}"] = free_port()
            arguments = [*arguments, "--admin", f"127.0.0.1:{admin}"]
        before = island.command if island is not None else []
        self.processes.append(Process(role, seat, arguments, folder=self.folder, environ=environ, before=before))

    def _environ(self, host: str, file: str = "homing.toml") -> dict[str, str]:
        path = os.pathsep.join([str(self.folder), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environ = {"HOMING_CONFIG": str(self.folder / file), "PYTHONPATH": path, desk.LEDGER: str(self.ledger)}
        environ["BANK_URL"] = f"http://{host}:{self._provider_port}"
        if self._preload:
            environ |= {"LD_PRELOAD": self._preload, "FAKETIME_TIMESTAMP_FILE": str(self.clock)}
            environ |= {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_CACHE_DURATION": "1"}
        return environ

    async def close(self) -> list[str]:
        """All told to leave, gateways first; what did not leave in order is said."""
        wrongs: list[str] = []
        for role in LEAVING:
            for process in self.of(role):
                process.resume()
                if process.running and (code := await process.leave()) != 0:
                    wrongs.append(f"{process} was told to leave and exited with {code}")
        wrongs += self.house.orphans if self.house is not None else []
        for link in self.links:
            await link.close()
        if self._provider is not None:
            self._provider.kill()
            await self._provider.wait()
        return wrongs

    async def watch(self) -> None:
        """For as long as it is let: how the gateways, and this very process, fare on this machine."""
        asking = asyncio.ensure_future(self.house.ask()) if self.house is not None else None
        try:
            await self._look()
        finally:
            if asking is not None:
                asking.cancel()

    async def _look(self) -> None:
        while True:
            due = time.monotonic() + LOOK_EVERY_S
            await asyncio.sleep(LOOK_EVERY_S)
            if (now := time.monotonic()) > due + LAG_S:
                self._lags.append((due, now))
            for gateway in self.gateways:
                gateway.look()

    def lag_s(self, since: float, until: float) -> float:
        """How long this process itself stood still in that time."""
        return overlap_s(self._lags, since, until)

    async def left(self) -> list[str]:
        """What the tables of those who can be asked still hold, in words."""
        left: list[str] = []
        numbers = {"gateway": self.shape.gateways, "broker": 1, "worker": self.shape.workers}
        for process in self.processes:
            if not process.far:
                try:
                    state = await asyncio.to_thread(verbose, self._admin_ports[str(process)])
                except OSError as error:  # it has just been started again
                    left.append(f"{process} cannot be asked how it is: {error}")
                    continue
                if self.house is process:
                    left += self.house.left(state, numbers)
                    continue
                left += [f"{process} holds {count} {name}" for name, count in held(state) if count]
        return left

    async def kill(self) -> None:
        """Everything, now."""
        for process in self.processes:
            await process.raze()
        for link in self.links:
            await link.close()
        if self._provider is not None and self._provider.returncode is None:
            self._provider.kill()
            await self._provider.wait()
        for island in self.islands:
            island.remove()
