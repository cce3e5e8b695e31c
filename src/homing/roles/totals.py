"""The figures of several processes added up, so that whoever reads them sees one house.

What is read is the Prometheus text format as `homing.telemetry` writes it: labels in one order, no time stamps. Two samples are the
same one if the text before their value is.
"""

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

Samples: TypeAlias = dict[tuple[str, str], float]  # by family, and by the sample's name and labels
NOBODY = 0  # the first process is 1


class Counted(msgspec.Struct, frozen=True):
    """What was counted by those who have left, and by each of those who have not, in the format that is read here."""

    left: str
    by: dict[int, str]


class Totals:
    """Sums by name and labels. A counter never falls: what a process had counted when it left, or fell silent, stays counted.

    A process is known by a number that no other one ever has.
    """

    def __init__(self) -> None:
        self._families: dict[str, tuple[str, str]] = {}  # name: its lines of HELP and TYPE
        self._counted: dict[int, Samples] = {}
        self._measured: dict[int, Samples] = {}
        self._left: Samples = {}

    def heard(self, who: int, text: str) -> None:
        """What a process says now. Raises ValueError if that cannot be read."""
        counted: Samples = {}
        measured: Samples = {}
        families: dict[str, tuple[str, str]] = {}
        samples = measured
        meaning = name = ""
        for line in text.splitlines():
            if line.startswith("# HELP "):
                meaning = line
            elif line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ", 3)
                families[name] = (meaning, line)
                samples = measured if kind == "gauge" else counted
            elif line:
                sample, space, value = line.rpartition(" ")
                if not space or not name:
                    raise ValueError(f"no figure: {line[:80]!r}")
                samples[name, sample] = float(value)
        self._families.update(families)
        self._counted[who], self._measured[who] = counted, measured

    def silent(self, who: int) -> None:
        """It did not answer: what it had counted stands, what it measured is not known."""
        self._measured.pop(who, None)

    def left(self, who: int) -> None:
        """It has ended."""
        self._measured.pop(who, None)
        _add(self._left, self._counted.pop(who, {}))

    def exposition(self, **own: tuple[str, str, Mapping[str, float]]) -> str:
        """All of it in the Prometheus text format; `own` are further families by name: (meaning, kind, value by the label `role`)."""
        total: Samples = dict(self._left)
        for samples in (*self._counted.values(), *self._measured.values()):
            _add(total, samples)
        families: dict[str, list[str]] = {name: [*lines] for name, lines in self._families.items()}
        for (name, sample), value in total.items():
            families[name].append(f"{sample} {value!r}")
        for name, (meaning, kind, values) in own.items():
            family = families.setdefault(name, [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"])
            family += (f'{name}{{role="{role}"}} {float(value)!r}' for role, value in values.items())
        return "\n".join(line for lines in families.values() for line in lines) + "\n"

    def counted(self) -> Counted:
        """What had been counted so far, for whoever comes after to go on with: those who have not left may say more, and of all of it."""
        return Counted(self._text(self._left), {who: self._text(samples) for who, samples in self._counted.items()})

    def go_on(self, before: Counted) -> None:
        """Whoever was here before has counted so much."""
        for who, text in before.by.items():
            self.heard(who, text)
        self.heard(NOBODY, before.left)
        self.left(NOBODY)

    def _text(self, samples: Samples) -> str:
        families: dict[str, list[str]] = {}
        for (name, sample), value in samples.items():
            families.setdefault(name, [*self._families[name]]).append(f"{sample} {value!r}")
        return "\n".join(line for lines in families.values() for line in lines) + "\n"


def _add(total: Samples, samples: Samples) -> None:
    for sample, value in samples.items():
        total[sample] = total.get(sample, 0.0) + value
