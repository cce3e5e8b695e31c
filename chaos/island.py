"""A network namespace with one cable to the rest of the world. Pulled, it loses every packet and tells nobody: no FIN, no reset."""

import itertools
import os
import shutil
import subprocess

_made = itertools.count()  # the kernel takes its time to let go of a name


def possible() -> bool:
    """Whether this machine lets us make one."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    island = Island(255)
    try:
        island.make()
    except subprocess.CalledProcessError:
        return False
    finally:
        island.remove()
    return True


class Island:
    """`here` is our end's address, which those on the island dial; `command` begins a program there."""

    def __init__(self, number: int) -> None:
        name = f"ch{os.getpid()}x{next(_made)}"
        self.here = f"10.231.{number}.1"
        self.command = ["ip", "netns", "exec", name]
        self._there = f"10.231.{number}.2"
        self._name = name
        self._cable = name[:15]

    def make(self) -> None:
        """Raises CalledProcessError where that is not allowed."""
        _ip("netns", "add", self._name)
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", "out", "netns", self._name)
        _ip("addr", "add", f"{self.here}/24", "dev", self._cable)
        _ip("link", "set", self._cable, "up")
        for what in (
            ["addr", "add", f"{self._there}/24", "dev", "out"],
            ["link", "set", "out", "up"],
            ["link", "set", "lo", "up"],
        ):
            _ip("-n", self._name, *what)

    def remove(self) -> None:
        """The cable goes with it."""
        subprocess.run(["ip", "netns", "del", self._name], check=False, capture_output=True)

    def pull(self) -> None:
        """Whatever is sent from now on is lost."""
        _ip("link", "set", self._cable, "down")

    def plug(self) -> None:
        """What is sent again arrives."""
        _ip("link", "set", self._cable, "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
