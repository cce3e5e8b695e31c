"""Every state within small bounds holds; and each broken rule is found, with a history that can be followed."""

import os

import msgspec
import pytest

from homing.core.calls import Calls
from homing.core.worker import Worker
from homing.sim import explore
from homing.sim.explore import Explorer
from homing.sim.scopes import DEEP, SHALLOW, Bounds
from tests.sim import broken

# HOMING_EXPLORE=deep looks at what takes minutes and gigabytes.
SCOPES = SHALLOW | DEEP if os.environ.get("HOMING_EXPLORE") == "deep" else SHALLOW

NOTHING = Bounds(claims=1, crashes=0, resubmits=0, doublings=0, rejects=0, losses=0, repeats=0)
ONCE_MORE = {"resubmits": 1, "claims": 2}

BROKEN: dict[type[Calls | Worker], tuple[str, dict[str, int]]] = {
    broken.GrantsToAll: ("never twice", ONCE_MORE),
    broken.AnyReleaseFrees: ("no is no", {"resubmits": 1, "claims": 3}),
    broken.RejectSettlesTheClaimed: ("no is no", {"resubmits": 1, "rejects": 1}),
    broken.LossFrees: ("no is no", {"losses": 1, "claims": 2}),
    broken.LossOfAllFrees: ("no is no", {"strays": 1, "tellings": 1, "claims": 2}),
    broken.DeadlineProvesNo: ("no is no", {}),
    broken.SettlesTwice: ("one answer", {}),
    broken.TakesAnyLifesGrant: ("never twice", ONCE_MORE | {"crashes": 1, "doublings": 1}),
    broken.ReleasesWhatItForgot: ("no is no", {"doublings": 1, "claims": 2}),
    broken.BeginsAgain: ("never twice", {"doublings": 1}),
    broken.TakesLostForNo: ("no is no", {}),
    broken.ClaimsAfterTheFact: ("never twice", {}),
    broken.SaysDoneUnasked: ("yes is yes", {}),
}


def explorer(machine: type[Calls | Worker], bounds: Bounds) -> Explorer:
    if issubclass(machine, Calls):
        return Explorer(bounds, gateway=machine)
    return Explorer(bounds, worker=machine)


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.timeout(36_000 if SCOPES is not SHALLOW else 60)
def test_the_rules_hold_in_every_state(scope: str) -> None:
    found = Explorer(SCOPES[scope]).explore()
    assert found.broken is None, "\n".join(found.history)
    assert found.states > 5_000


@pytest.mark.parametrize("machine", BROKEN, ids=lambda machine: machine.__name__)
def test_a_broken_rule_is_found(machine: type[Calls | Worker]) -> None:
    rule, more = BROKEN[machine]
    found = explorer(machine, msgspec.structs.replace(NOTHING, **more)).explore()
    assert found.broken is not None
    assert found.broken.startswith(rule)
    assert found.history[-1] == found.broken


def test_a_history_reads_from_the_beginning_to_the_end() -> None:
    found = Explorer(msgspec.structs.replace(NOTHING, doublings=1), worker=broken.BeginsAgain).explore()
    assert found.history[:3] == ("REQUEST reaches 1", "CLAIM reaches 0", "GRANT reaches 1, doubled")


def test_a_machine_that_raises_is_found() -> None:
    class Raises(Calls):
        def _claimed(self, *_: object) -> list:
            raise KeyError("claim")

    found = Explorer(NOTHING, gateway=Raises).explore()
    assert found.broken == "sound: KeyError: 'claim'"


def test_a_deadline_that_settles_nothing_is_found() -> None:
    class Sleeps(Calls):
        def _tick(self, *_: object) -> list:
            return []

    found = Explorer(NOTHING, gateway=Sleeps).explore()
    assert found.broken is not None
    assert found.broken.startswith("on time")


def test_too_many_states_are_left_alone() -> None:
    found = Explorer(Bounds()).explore(states_max=50)
    assert 50 <= found.states < 100
    assert found.broken is None


def test_who_hangs_up_gateways_that_crash_and_losses_have_histories_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explore, "LEDGER_MAX", 1)  # so that nothing but the answer can be wrong
    bounds = msgspec.structs.replace(NOTHING, gateway_crashes=1, hang_ups=1, losses=1, crashes=1, repeats=1, effect="safe")
    assert Explorer(bounds, gateway=broken.SettlesTwice).explore().broken == "one answer: settled ('ok', 'yes'), and then ok"
