"""A story tells what concerns one call, in words that can be read."""

from homing.core.machine import Finished, Received, Send, Settle, Start, Tick
from homing.core.messages import Claim, Hello
from homing.sim.story import Story
from tests.core.people import OK, A, B
from tests.sim.people import process
from tests.sim.test_provider import start


def test_a_story_is_about_one_call_and_about_what_befell_those_who_took_part() -> None:
    story, worker, broker, other = Story(A), process("worker"), process("broker", 2), process("gateway", 3)
    story.fault(0.5, (worker,), "stands still")  # before the story begins
    story.event(1.0, worker, Received(b"broker", Claim(A, b"life", 3)))
    story.event(1.1, worker, Received(b"broker", Claim(B, b"life", 4)))
    story.event(1.2, worker, Received(b"broker", Hello(b"life")))
    story.event(1.3, worker, Finished(A, 1, OK))
    story.event(1.4, worker, Tick())
    story.action(1.5, worker, Send(b"broker", Claim(A, b"life", 5)))
    story.fault(1.6, (worker, broker), "cut")
    story.fault(1.7, (other,), "crashes")  # which has no part in it
    story.event(1.8, broker, Received(b"worker", Claim(A, b"life", 5)))
    story.action(1.9, worker, Settle(A, OK))
    lines = story.lines()
    assert len(lines) == 6
    assert lines[0].split() == ["1.0000", "worker", "0.1", "<", "broker", "Claim", "life=6c6966", "claim=3"]
    assert "number=1" in lines[1]
    assert "ok/yes" in lines[1]
    assert ">" in lines[2]
    assert lines[3].split() == ["1.6000", "worker", "0.1", "–", "broker", "0.2", "*", "cut"]
    assert lines[5].split()[-2:] == ["Settle", "ok/yes"]


def test_instants_are_short() -> None:
    story = Story(None)
    story.action(0.0, process("worker"), start(deadline=1.23456))
    assert "deadline=1.2346" in story.lines()[0]
    assert "lookup=False" in story.lines()[0]
    assert isinstance(start(), Start)


def test_without_a_call_the_last_steps_are_told() -> None:
    story, worker = Story(None, lines_max=10), process("worker")
    for number in range(100):
        story.event(float(number), worker, Tick())
    lines = story.lines()
    assert len(lines) == 10
    assert lines[-1].startswith("   99.0000")
