"""What every test may count on: programs that are named when missing, Hypothesis profiles, a clean environment, signals untaken."""

import os
import shutil
import signal
from collections.abc import Callable, Generator

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.engines.conformance")

HEEDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
IN_CI = os.environ.get("HOMING_CI") == "1"

# No deadline for an example: these machines have clocks of their own, and a busy laptop is no bug.
settings.register_profile("dev", deadline=None)
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,  # a change is judged by what it changed, not by the day's luck
    max_examples=200,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if IN_CI else "dev"))


def find(program: str) -> str:
    """Return the path of `program`; without it, skip here and fail in CI, where nothing may go untested."""
    # Debian keeps servers in sbin, which only root has in its PATH.
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])
    if found := shutil.which(program, path=path):
        return found
    message = f"{program} is not installed; this test needs it"
    if IN_CI:
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


@pytest.fixture(scope="session")
def needs() -> Callable[[str], str]:
    """`needs("nginx")` is the program's path, or the end of the test."""
    return find


@pytest.fixture(autouse=True)
def _programs(request: pytest.FixtureRequest) -> None:
    for mark in request.node.iter_markers("needs"):
        for program in mark.args:
            find(program)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has homing configured in their shell gets the same tests as everybody else."""
    for name in ("HOMING_API_KEY", "HOMING_CONFIG", "HOMING_LISTEN", "HOMING_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, object, object]:
    """Signals are heeded after a test as before it: a loop of uvloop that is closed goes on to take them, and does nothing."""
    before = {number: signal.getsignal(number) for number in HEEDED}
    try:
        return (yield)
    finally:
        for number, heed in before.items():
            if heed is not None and signal.getsignal(number) is not heed:
                signal.signal(number, heed)
