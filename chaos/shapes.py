"""What a round is made of, drawn from its seed."""

import random
from typing import Literal, TypeAlias, get_args

import msgspec

Kind: TypeAlias = Literal[
    "roles",  # gateways, brokers and workers, called over HTTP
    "clients",  # and by our own clients, to gateways and to brokers
    "python",  # and workers in Python
    "curve",  # and all of them, and clients, under keys
    "serve",  # one house of several processes
    "rolling",  # the same, with nothing amiss, replaced again and again while calls come: nobody may notice
    "all",  # everything at once
]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """How many there are of each."""

    kind: Kind = "roles"
    gateways: int = 2
    brokers: int = 1
    workers: int = 2
    islands: int = 0  # so many of the workers are in a network namespace of their own
    desks: int = 0  # workers in Python
    curve: bool = False  # between processes, and for clients that dial brokers
    clients: int = 0  # that own their calls, and dial the brokers
    web_clients: int = 0  # that call gateways

    @property
    def housed(self) -> bool:
        """Whether gateways, broker and workers are children of one process."""
        return self.kind in ("serve", "rolling")

    @property
    def calm(self) -> bool:
        """Whether nothing may go amiss."""
        return self.kind == "rolling"

    def __str__(self) -> str:
        names = ("gateways", "brokers", "workers", "desks", "clients", "web_clients")
        counts = [f"{count} {name.replace('_', ' ')}" for name in names if (count := getattr(self, name))]
        return f"{self.kind:7} {', '.join(counts)}{', curve' if self.curve else ''}"


def draw(dice: random.Random, *, kind: Kind | None = None, islands: bool = False) -> Shape:
    """One shape, of a kind if that is said. `islands` is whether there can be any."""
    chosen: Kind = dice.choice(KINDS) if kind is None else kind
    housed = chosen in ("serve", "rolling")
    with_clients = chosen in ("clients", "curve", "all") or (housed and dice.random() < 0.5)
    with_desks = chosen in ("python", "all") or (chosen in ("curve", "serve", "rolling") and dice.random() < 0.5)
    return Shape(
        kind=chosen,
        gateways=dice.choice((1, 2)),
        brokers=1 if housed else dice.choice((1, 1, 2)),
        workers=dice.choice((1, 2, 3)),
        islands=dice.choice((0, 1)) if islands and not housed else 0,
        desks=dice.choice((1, 2)) if with_desks else 0,
        curve=chosen == "curve" or (chosen == "all" and dice.random() < 0.5),
        clients=dice.choice((1, 2)) if with_clients else 0,
        web_clients=dice.choice((0, 1)) if with_clients else 0,
    )
