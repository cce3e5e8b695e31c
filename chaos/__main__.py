"""`make chaos`: rounds of load under faults, each from a seed of its own, each with its history held against the ledger.

python -m chaos [--seconds 3600] [--round 40] [--seed N] [--shape KIND] [--per-second 60] [--json FILE] [--keep]
"""

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import msgspec

from chaos import island
from chaos.history import Findings
from chaos.report import Report, print_report, print_round
from chaos.rounds import Round, play
from chaos.shapes import KINDS, draw

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


def main() -> int:
    """Rounds until the time is up."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600, help="how long in all; at least one round is played")
    parser.add_argument("--round", type=float, default=40, help="seconds of load in one round")
    parser.add_argument("--seed", type=int, default=None, help="of the first round; the next ones count on from it")
    parser.add_argument("--shape", choices=KINDS, default=None, help="of every round; else by the seed")
    parser.add_argument("--per-second", type=float, default=60, help="calls")
    parser.add_argument("--json", default="", help="write the summary there")
    parser.add_argument("--keep", action="store_true", help="keep the folders of rounds that were well too")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    preload = FAKETIME if Path(FAKETIME).exists() else ""
    if not preload:
        print("libfaketime is not installed: wall clocks stay as they are", file=sys.stderr)
    islands = island.possible()
    if not islands:
        print("no network namespaces here: nobody is cut off without a FIN", file=sys.stderr)
    report, began = Report(), time.monotonic()
    try:
        while not report.rounds or time.monotonic() < began + options.seconds:
            folder = Path(tempfile.mkdtemp(prefix=f"chaos-{seed}-"))
            shape = draw(random.Random(seed), kind=options.shape, islands=islands)
            try:
                one = asyncio.run(play(seed, shape, options.round, options.per_second, folder, preload=preload))
            except Exception as error:  # the hour goes on
                traceback.print_exc()
                one = Round(seed, shape, {}, Findings(broken=[f"the round broke off: {error!r}"]))
            report.add(one)
            print_round(one, folder)
            if not one.findings.broken and not options.keep:
                shutil.rmtree(folder)
            seed += 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
    report.seconds = time.monotonic() - began
    print_report(report)
    if options.json:
        Path(options.json).write_text(json.dumps(msgspec.to_builtins(report), indent=1) + "\n")
    return 1 if report.broken else 0


if __name__ == "__main__":
    raise SystemExit(main())
