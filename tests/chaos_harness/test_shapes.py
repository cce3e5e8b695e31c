"""What a round is made of follows from its seed, and from nothing else."""

import random

import pytest

from chaos.shapes import KINDS, Kind, draw


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_draws_one_shape(kind: Kind) -> None:
    for seed in range(50):
        shape = draw(random.Random(seed), kind=kind, islands=True)
        assert shape == draw(random.Random(seed), kind=kind, islands=True)
        assert shape.kind == kind
        assert shape.desks or kind not in ("python", "all")
        assert shape.clients or kind not in ("clients", "curve", "all")
        assert shape.curve or kind != "curve"
        assert kind != "roles" or not (shape.desks or shape.clients or shape.curve)
        assert not shape.housed or (shape.brokers, shape.islands) == (1, 0)
        assert shape.web_clients <= shape.gateways
        assert shape.islands <= shape.workers


def test_seeds_draw_every_kind() -> None:
    assert {draw(random.Random(seed)).kind for seed in range(200)} == set(KINDS)


def test_where_there_can_be_no_islands_there_are_none() -> None:
    assert not any(draw(random.Random(seed)).islands for seed in range(50))
