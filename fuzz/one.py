"""One target under Atheris (libFuzzer): python -m fuzz.one TARGET [libFuzzer's options] CORPUS. It ends at the first fault."""

import sys

import atheris

with atheris.instrument_imports(include=["homing", "fuzz"]):
    from fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()
