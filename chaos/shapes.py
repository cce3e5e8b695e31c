"""What a round is made of, drawn from its seed."""

import random
from typing import Literal, TypeAlias, get_args

import msgspec

Kind: TypeAlias = Literal[
    "roles",  # gateways, brokers and workers, called over HTTP
    "clients",  # and by our own clients, to gateways and to brokers
    "python",  # and workers in Python
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
    clients: int = 0  # that own their calls, and dial the brokers
    web_clients: int = 0  # that call gateways

    def __str__(self) -> str:
        names = ("gateways", "brokers", "workers", "desks", "clients", "web_clients")
        counts = [f"{count} {name.replace('_', ' ')}" for name in names if (count := getattr(self, name))]
        return f"{self.kind:7} {', '.join(counts)}"


def draw(dice: random.Random, *, kind: Kind | None = None, islands: bool = False) -> Shape:
    """One shape, of a kind if that is said. `islands` is whether there can be any."""
    chosen: Kind = dice.choice(KINDS) if kind is None else kind
    with_clients, with_desks = chosen in ("clients", "all"), chosen in ("python", "all")
    return Shape(
        kind=chosen,
        gateways=dice.choice((1, 2)),
        brokers=dice.choice((1, 1, 2)),
        workers=dice.choice((1, 2, 3)),
        islands=dice.choice((0, 1)) if islands else 0,
        desks=dice.choice((1, 2)) if with_desks else 0,
        clients=dice.choice((1, 2)) if with_clients else 0,
        web_clients=dice.choice((0, 1)) if with_clients else 0,
    )
