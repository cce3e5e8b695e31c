"""The four processes there are: `serve`, which is all in one, and gateway, broker and worker by themselves. What each is, and says."""

import os
from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from homing import curve
from homing.config import Config
from homing.core.methods import Method
from homing.engines.zmq import CurveClient, CurveServer
from homing.forms import Address, is_local
from homing.roles.machines import asked_methods, credits_of
from homing.roles.process import Plan, Process
from homing.settings import DialCurve
from homing.telemetry import Log


class Placing(msgspec.Struct, frozen=True, kw_only=True):
    """Where a process stands, as its command line says it: over what the configuration says. `""` and empty is nothing."""

    listens: tuple[str, ...] = ()
    dials: tuple[str, ...] = ()
    admin: Address | str | None = None
    listen_fds: tuple[int, ...] = ()
    opened: tuple[tuple[str, int], ...] = ()
    parent_fd: int | None = None


def serve_plan(config: Config, placing: Placing | None = None) -> Plan:
    """All in one process. With `broker.listen` its broker takes others too. Raises ValueError for a key file that is none."""
    listens = (config.broker.listen,) if config.broker.listen else ()
    return Plan(
        name="homing",
        gateway=True,
        broker=True,
        worker=True,
        listens=listens,
        listen_curve=_listen_curve(config) if listens else None,
        majordomo=config.gateway.majordomo,
        admin=(placing.admin if placing is not None else None) or config.admin.listen,
    )


def gateway_plan(config: Config, placing: Placing) -> Plan:
    """Callers come in here. Raises ValueError."""
    return Plan(
        name="homing gateway",
        gateway=True,
        dials=placing.dials or config.gateway.brokers,
        dial_curve=dial_curve(config.gateway.curve),
        majordomo=config.gateway.majordomo,
        admin=placing.admin or config.admin.listen,
        listen_fds=placing.listen_fds,
        opened=placing.opened,
        parent_fd=placing.parent_fd,
    )


def broker_plan(config: Config, placing: Placing) -> Plan:
    """Queues. Raises ValueError."""
    return Plan(
        name="homing broker",
        broker=True,
        listens=placing.listens or ((config.broker.listen,) if config.broker.listen else ()),
        listen_curve=_listen_curve(config),
        admin=placing.admin or config.broker.admin,
        opened=placing.opened,
        parent_fd=placing.parent_fd,
    )


def worker_plan(config: Config, placing: Placing) -> Plan:
    """Asks the providers. Raises ValueError."""
    return Plan(
        name="homing worker",
        worker=True,
        dials=placing.dials or config.worker.brokers,
        dial_curve=dial_curve(config.worker.curve),
        credit_max=config.worker.credit,
        admin=placing.admin or config.worker.admin,
        parent_fd=placing.parent_fd,
    )


def dial_curve(table: DialCurve) -> CurveClient | None:
    """The keys of who dials; None without CURVE. Raises ValueError for a key file that is none."""
    if not table.key:
        return None
    keys = curve.read_keys(table.key)
    return CurveClient(keys.public_key.encode(), keys.secret_key.encode(), table.broker.encode())


def _listen_curve(config: Config) -> CurveServer | None:
    name = config.broker.curve.key
    if not name:
        return None
    users = {peer.public_key.encode(): user for user, peer in config.peers.items()}
    return CurveServer(curve.read_keys(name).secret_key.encode(), users)


async def run_plan(config: Config, methods: Mapping[str, Method], plan: Plan, log: Log) -> None:
    """Run a process until it is told to leave, on a loop that runs already. Raises OSError if an address cannot be had."""
    if plan.parent_fd is not None:
        log.who = {"role": plan.name.removeprefix("homing "), "pid": os.getpid()}
    process = Process(config, methods, plan, log=log)
    process.heed_signals()
    await process.start()
    announce(process)
    await process.run()


def announce(process: Process, offers: Mapping[str, int] | None = None, methods: int = 0) -> None:
    """The first lines of the log: what runs where, and what is insecure about it.

    `offers` are the services of a worker that asks no providers, with how many calls of each it takes at once; and so many `methods`.
    """
    plan, log = process.plan, process.log
    admin = f", admin on {_admin(process)}" if plan.admin is not None else ""
    if process.front is not None:
        listen = replace(process.config.gateway.listen, port=process.front.port)  # the bound one, for 0 is any
        log.event("listening", f"{plan.name} listens on {listen}{admin}.", methods=len(process.methods))
    elif process.middle is not None:
        log.event("listening", f"{plan.name} listens on {_list(process.endpoints)}{admin}.")
    if process.front is not None and process.middle is not None and process.endpoints:
        log.event("open", f"Other processes reach the broker on {_list(process.endpoints)}.")
    if process.majordomo:
        log.event("majordomo", f"Clients of Majordomo come in at {process.majordomo}.")
    if plan.dials and process.back is not None:
        if offers is None:
            asked = asked_methods(process.methods, process.config.worker.services)
            offers, methods = credits_of(process.config, asked, plan.credit_max), len(asked)
        offered = _list(f"{service} ({credit} at once)" for service, credit in sorted(offers.items()))
        log.event("offering", f"{plan.name} offers {offered} to {_brokers(plan.dials)}{admin}.", methods=methods)
    elif plan.dials:
        log.event("dialling", f"{plan.name} gives its calls to {_brokers(plan.dials)}.")
    _warn(process)


def _warn(process: Process) -> None:
    plan = process.plan
    for endpoint in () if plan.listen_curve else process.endpoints:
        if not is_local(endpoint):
            message = f"Insecure: whoever reaches {endpoint} can call, serve and listen in; insecure = true allows it."
            process.log.event("insecure", message, level="warning")
    for endpoint in () if plan.dial_curve else plan.dials:
        if not is_local(endpoint):
            message = f"Insecure: what is said to {endpoint} can be read and forged on the way; insecure = true allows it."
            process.log.event("insecure", message, level="warning")


def _admin(process: Process) -> str:
    admin = process.plan.admin
    return str(replace(admin, port=process.admin_port)) if isinstance(admin, Address) else f"unix:{admin}"


def _brokers(endpoints: tuple[str, ...]) -> str:
    return f"the broker{'s' if len(endpoints) > 1 else ''} at {_list(endpoints)}"


def _list(words: Iterable[str]) -> str:
    return ", ".join(words)
