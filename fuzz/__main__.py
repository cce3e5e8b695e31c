"""`make fuzz`: each target for a while, two at a time. python -m fuzz [--seconds 60] [--corpus FOLDER] [TARGET ...]

The corpus grows from run to run if it is kept. A fault is printed with the bytes that brought it about, and left in a file; it becomes
a test, and `python -m fuzz TARGET --again FILE` runs it alone.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuzz.seeds import SEEDS
from fuzz.targets import TARGETS

ROOT = Path(__file__).parent.parent
BYTES_MAX = 4096


def prepare(name: str, corpus: Path) -> Path:
    """The folder of one target's corpus, with its seeds."""
    folder = corpus / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(SEEDS[name]):
        (folder / f"seed-{number}").write_bytes(seed)
    return folder


def fuzz(name: str, corpus: Path, seconds: int) -> tuple[bool, str]:
    """Whether a target held, and a line or more about it."""
    folder = prepare(name, corpus)
    faults = corpus / "faults"
    faults.mkdir(exist_ok=True)
    options = [f"-max_total_time={seconds}", f"-max_len={BYTES_MAX}", "-timeout=20", f"-artifact_prefix={faults}/{name}-"]
    command = [sys.executable, "-m", "fuzz.one", name, *options, str(folder)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    done = re.search(r"Done (\d+) runs", run.stderr)
    if run.returncode == 0 and done is not None:
        coverage = re.findall(r" cov: (\d+)", run.stderr)
        return (
            True,
            f"{name:<20}{int(done[1]):>10,} inputs, {len(list(folder.iterdir()))} worth keeping, {coverage[-1] if coverage else 0} edges",
        )
    return False, f"{name}: a fault\n{run.stderr[-4000:]}"


def main() -> int:
    """Exit code 1 if a target found a fault."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--corpus", type=Path, help="keep what was found worth keeping there")
    parser.add_argument("--again", type=Path, metavar="FILE", help="run the targets on these bytes only, without Atheris")
    asked = parser.parse_args()
    names = asked.targets or list(TARGETS)
    if unknown := set(names) - TARGETS.keys():
        parser.error(f"no such target: {', '.join(sorted(unknown))}; expected some of {', '.join(TARGETS)}")
    if asked.again is not None:
        for name in names:
            TARGETS[name](asked.again.read_bytes())
        return 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as two:
        corpus = (asked.corpus or Path(folder)).resolve()
        corpus.mkdir(parents=True, exist_ok=True)
        held = True
        for well, said in two.map(lambda name: fuzz(name, corpus, asked.seconds), names):
            held = held and well
            print(said, flush=True)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
