"""`homing serve`: gateway, broker and worker in one process."""

from collections.abc import Mapping

from homing.config import Config
from homing.core.broker import Broker
from homing.core.calls import Calls
from homing.core.methods import Method
from homing.core.worker import Worker
from homing.edges.http import Listener
from homing.roles.gateway import Gateway
from homing.roles.parts import BrokerPart, GatewayPart, WorkerPart
from homing.roles.plans import serve_plan
from homing.roles.process import Process
from homing.roles.worker import Hands
from homing.telemetry import Log


class OneProcess(Process):
    """A process with all three parts, each by its name. `port` is the bound one."""

    front: GatewayPart
    middle: BrokerPart
    back: WorkerPart

    def __init__(self, config: Config, methods: Mapping[str, Method], *, log: Log) -> None:
        super().__init__(config, methods, serve_plan(config), log=log)

    @property
    def port(self) -> int:
        """Where callers come in."""
        return self.front.port

    @property
    def gateway(self) -> Gateway:
        """The life of a call."""
        return self.front.gateway

    @property
    def listener(self) -> Listener:
        """The callers' connections."""
        return self.front.listener

    @property
    def calls(self) -> Calls:
        """The gateway's machine."""
        return self.front.calls

    @property
    def broker(self) -> Broker:
        """The broker's machine."""
        return self.middle.broker

    @property
    def worker(self) -> Worker:
        """The worker's machine."""
        return self.back.worker

    @property
    def hands(self) -> Hands:
        """The requests under way."""
        return self.back.hands
