"""`python -m homing`, which is `__main__`."""

import subprocess
import sys


def test_the_module_is_the_command() -> None:
    told = subprocess.run([sys.executable, "-m", "homing", "--version"], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("homing, ") or told.stdout.startswith("homing ")
    refused = subprocess.run([sys.executable, "-m", "homing", "nothing"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "Usage: homing" in refused.stderr
