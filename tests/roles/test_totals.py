"""`totals`: what several processes counted and measured, as one."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from homing.errors import failure
from homing.roles.totals import Totals
from homing.telemetry import Metrics

Figures = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def figures(text: str) -> Figures:
    """As Prometheus reads it."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def process(calls: int, open_calls: float, method: str = "a.b") -> str:
    """What a process with some calls says."""
    metrics = Metrics()
    for _ in range(calls):
        metrics.count(method, failure("overloaded", "no"), 0.2)
    metrics.gauge("homing_open_calls", "Calls open.", lambda: open_calls)
    metrics.gauge("homing_queue_length", "Calls queued.", lambda: {"acme": open_calls, 'o"d \\d\n': 1.0})
    metrics.counter("homing_refused", "Requests refused.", lambda: calls * 2.0)
    return metrics.exposition().decode()


CALLS = ("homing_calls_total", (("executed", "no"), ("method", "a.b"), ("reason", "overloaded")))
OPEN = ("homing_open_calls", ())


def test_counters_gauges_and_histograms_are_added_by_name_and_labels() -> None:
    totals = Totals()
    totals.heard(1, process(3, 5))
    totals.heard(2, process(4, 6))
    totals.heard(3, process(1, 0, method="c.d"))
    added = figures(totals.exposition())
    alone = [figures(process(3, 5)), figures(process(4, 6)), figures(process(1, 0, method="c.d"))]
    assert added == {sample: sum(each.get(sample, 0.0) for each in alone) for each in alone for sample in each}, (
        "every sample is the sum of the same sample of each"
    )
    assert (added[CALLS], added[OPEN]) == (7, 11)


def test_one_alone_comes_out_as_it_went_in() -> None:
    totals = Totals()
    totals.heard(1, process(3, 5))
    assert totals.exposition() == process(3, 5)


def test_who_says_more_is_not_counted_twice() -> None:
    totals = Totals()
    totals.heard(1, process(3, 5))
    totals.heard(1, process(4, 2))
    assert figures(totals.exposition()) == figures(process(4, 2))


def test_a_counter_never_falls() -> None:
    totals = Totals()
    totals.heard(1, process(3, 5))
    totals.heard(2, process(4, 6))
    totals.silent(1)
    assert (figures(totals.exposition())[CALLS], figures(totals.exposition())[OPEN]) == (7, 6)
    totals.left(1)
    totals.left(2)
    totals.left(7)
    totals.heard(3, process(1, 1))
    assert (figures(totals.exposition())[CALLS], figures(totals.exposition())[OPEN]) == (8, 1)


def test_who_comes_after_goes_on_counting() -> None:
    totals = Totals()
    totals.heard(1, process(3, 5))
    totals.left(1)
    totals.heard(2, process(4, 6))
    after = Totals()
    after.go_on(totals.counted())
    assert (figures(after.exposition())[CALLS], figures(after.exposition()).get(OPEN)) == (7, None)
    after.heard(3, process(1, 1))
    assert (figures(after.exposition())[CALLS], figures(after.exposition())[OPEN]) == (8, 1)
    assert figures(Totals().exposition()) == {}


def test_who_stays_while_another_goes_on_counting_is_not_counted_twice() -> None:
    totals = Totals()
    totals.heard(1, process(3, 5))
    totals.heard(2, process(4, 6))
    after = Totals()
    after.go_on(totals.counted())
    after.heard(2, process(5, 6))
    assert figures(after.exposition())[CALLS] == 8
    after.left(1)  # before it could be asked again
    after.left(2)
    assert figures(after.exposition())[CALLS] == 8


def test_own_figures_are_beside_them() -> None:
    totals = Totals()
    totals.heard(1, process(1, 1))
    own = figures(totals.exposition(homing_processes=("Processes.", "gauge", {"gateway": 2, "broker": 1})))
    assert own["homing_processes", (("role", "gateway"),)] == 2
    assert own[CALLS] == 1


@pytest.mark.parametrize(
    "text",
    ["nonsense", "# TYPE a counter\na_total x", "# TYPE a", "stray 1.0"],
    ids=["bare", "no-number", "no-kind", "no-family"],
)
def test_what_cannot_be_read_is_told_and_changes_nothing(text: str) -> None:
    totals = Totals()
    totals.heard(1, process(3, 5))
    with pytest.raises(ValueError, match=r"figure|float|unpack"):
        totals.heard(1, text)
    assert figures(totals.exposition()) == figures(process(3, 5))
