"""`homing worker MODULE:NAME`: a worker whose methods are functions of a Python program."""

import os
import sys
import threading
import time
from pathlib import Path
from typing import Final

import click
from msgspec.structs import replace

from homing.cli.reading import read_or_exit
from homing.cli.running import refuse, run
from homing.config import Config
from homing.roles.plans import Placing, worker_plan
from homing.roles.python_log import print_lines
from homing.roles.python_worker import Offering, Unable, run_offering
from homing.telemetry import Log
from homing.workers import NoWorker, load_worker, offering_of

ENDED_S: Final = 5.0


def config_of(context: click.Context, path: str) -> Config:
    """The configuration, of which such a worker needs none: without the default file, the defaults hold. Mistakes exit with 2."""
    source = context.get_parameter_source("config_path")
    if source is click.core.ParameterSource.DEFAULT and not Path(path).exists():
        return Config()
    return read_or_exit(path, role="functions")[0]


def run_target(config: Config, target: str, placing: Placing, *, credit: int | None, processes: int | None) -> None:
    """Run the worker at a target to its end. What is none, or cannot begin, exits with 2."""
    try:
        plan = worker_plan(config, placing)
    except ValueError as error:
        refuse(str(error))
    try:
        offering = offering_at(target, credit=credit, processes=processes)
    except NoWorker as error:  # what the module raises has a traceback, which says where
        refuse(str(error))
    if credit is None and offering.credit_max > config.worker.credit:
        offering = replace(offering, credit=config.worker.credit)
    plan = replace(plan, name=f"homing worker {target}")
    print_lines()

    async def main(log: Log) -> None:
        await run_offering(offering, config, plan, log)
        log.flush()
        threading.Thread(target=_end_after, args=(ENDED_S,), daemon=True).start()

    try:
        run(main)
    except Unable as error:
        refuse(str(error))


def _end_after(seconds: float) -> None:
    """End this process if it has not ended by itself: Python waits for every thread that a function has started, without end."""
    time.sleep(seconds)
    os._exit(0)


def offering_at(target: str, *, credit: int | None = None, processes: int | None = None) -> Offering:
    """What a target offers. Its module is looked for in this folder first, as `python` would. Raises NoWorker for what is none."""
    here = os.getcwd()  # noqa: PTH109 - as text, for it stands in sys.path
    if sys.path[0] not in ("", here):
        sys.path.insert(0, here)
    return offering_of(load_worker(target), target, credit=credit, processes=processes)
