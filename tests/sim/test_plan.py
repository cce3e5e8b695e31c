"""Plans: the same for the same seed, and every kind of fault in some of them."""

from homing.sim.plan import DISTURBANCES, FAULTY_BEHAVIOURS, METHODS, calm, draw


def test_a_seed_has_one_plan() -> None:
    assert draw(7, 100) == draw(7, 100)
    assert draw(7, 100) != draw(8, 100)


def test_the_calm_plan_has_no_fault() -> None:
    plan = calm(1, 10)
    assert not any((plan.loss, plan.doubling, plan.late, plan.faulty, plan.disturbances, plan.hang_up))


def test_every_fault_is_in_some_plan_and_none_is_in_all() -> None:
    plans = [draw(seed, 1) for seed in range(300)]
    for kind in DISTURBANCES:
        share = sum(any(name == kind for name, _ in plan.disturbances) for plan in plans) / len(plans)
        assert 0.1 < share < 0.9, kind
    for behaviour in FAULTY_BEHAVIOURS:
        assert 0.1 < sum(behaviour in plan.behaviours for plan in plans) / len(plans) < 0.9, behaviour
    for field in ("loss", "doubling", "late", "hang_up", "ask_again", "clock_error", "token_problem", "faulty"):
        assert 0.1 < sum(bool(getattr(plan, field)) for plan in plans) / len(plans) < 0.9, field
    assert {plan.engine for plan in plans} == {"memory", "network"}


def test_in_one_process_nothing_is_cut_and_nobody_dies_alone() -> None:
    for plan in (draw(seed, 1) for seed in range(300)):
        if plan.engine == "memory":
            assert not any((plan.loss, plan.doubling, plan.late, plan.clock_error, plan.heartbeat_s))
            assert (plan.gateways, plan.brokers) == (1, 1)
            assert {kind for kind, _ in plan.disturbances} <= {"stall"}


def test_every_effect_has_a_method() -> None:
    assert {method.effect for method in METHODS} == {"once", "keyed", "safe"}
    assert any(method.policy.has_lookup for method in METHODS)
