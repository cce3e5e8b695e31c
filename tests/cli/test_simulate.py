"""`homing simulate`: what it says of a run, and of a rule that did not hold."""

import json
import sys

import pytest
from click.testing import CliRunner, Result

from homing.cli import main, simulate
from homing.core.calls import Calls
from homing.core.machine import Action, Settle
from homing.errors import Outcome
from homing.sim.invariants import RULES, Violation
from homing.sim.plan import draw
from homing.sim.world import Machines, World


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["simulate", *arguments])


def test_it_says_what_became_of_the_calls_and_what_was_done_to_them() -> None:
    result = run("--seed", "7", "--calls", "200")
    assert result.exit_code == 0, result.output
    assert "executed: yes" in result.output
    assert f"{len(RULES)} invariants held" in result.output
    assert "s simulated in" in result.output
    assert "calls a second" in result.output


def test_the_same_seed_is_the_same_run() -> None:
    one, other = (json.loads(run("--seed", "3", "--calls", "100", "--json").output) for _ in range(2))
    for said in (one, other):
        del said["took_s"]
    assert one == other


def test_seeds_add_up() -> None:
    both = json.loads(run("--seed", "1", "--seeds", "2", "--calls", "50", "--json").output)
    each = [json.loads(run("--seed", seed, "--calls", "50", "--json").output) for seed in ("1", "2")]
    assert both["seeds"] == 2
    assert both["calls"] == sum(one["calls"] for one in each)
    assert both["steps"] == sum(one["steps"] for one in each)


class Liar(Calls):
    """Says no, whatever has happened."""

    def handle(self, event: object, now: float) -> list[Action]:
        actions = super().handle(event, now)  # type: ignore[arg-type]
        lie = Outcome(reason="expired", executed="no")
        return [Settle(each.call_id, lie) if isinstance(each, Settle) else each for each in actions]


def test_a_broken_rule_is_told_with_the_way_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def world(*arguments: object, **named: object) -> World:
        return World(*arguments, machines=Machines(gateway=Liar), **named)  # type: ignore[arg-type]

    monkeypatch.setattr(simulate, "World", world)
    result = run("--seed", "7", "--calls", "100")
    assert result.exit_code == 1
    assert "is broken" in result.stderr
    assert "homing simulate --seed 7 --calls 100" in result.stderr
    assert "Settle" in result.stderr


def test_a_rule_that_names_no_call_has_the_last_steps_as_its_story(capsys: pytest.CaptureFixture[str]) -> None:
    simulate.broken(draw(1, 5), Violation("heals", "nothing succeeds"))
    said = capsys.readouterr().err
    assert RULES["heals"] in said
    assert len(said.splitlines()) > 10


def test_a_bar_is_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with simulate._progress(10) as told:
        told(5)


def test_many_calls_are_many_seeds() -> None:
    drawn = [(plan.seed, plan.calls) for plan in simulate.plans(7, 2, 2500)]
    assert drawn == [(7, 1000), (8, 1000), (9, 500), (10, 1000), (11, 1000), (12, 500)]
    assert [plan.calls for plan in simulate.plans(7, 1, 1000)] == [1000]
