"""The true time: what is to come comes in order, and nothing comes late."""

from random import Random

from homing.sim.timeline import Timeline


def test_what_is_to_come_comes_in_order() -> None:
    timeline = Timeline(Random(1))
    came: list[tuple[str, float]] = []

    def come(name: str) -> None:
        came.append((name, timeline.now))

    timeline.at(2.0, come, "later")
    timeline.after(1.0, come, "sooner")
    timeline.at(2.0, come, "at the same time, and after it")
    timeline.at(9.0, come, "not yet")
    timeline.run(3.0)
    assert came == [("sooner", 1.0), ("later", 2.0), ("at the same time, and after it", 2.0)]
    assert timeline.now == 3.0
    assert len(timeline) == 1


def test_what_happens_may_bring_about_more() -> None:
    timeline = Timeline(Random(1))
    came: list[float] = []

    def come(left: int) -> None:
        came.append(timeline.now)
        if left:
            timeline.after(0.5, come, left - 1)

    timeline.at(0.0, come, 3)
    timeline.run(1.2)
    assert came == [0.0, 0.5, 1.0]
