"""homing.edges.deadlines: what has settled costs nothing, what has not hears of it."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from homing.edges.deadlines import STALE_MIN, Deadlines
from tests.loops import on_both_loops, run, until


class Item:
    def __init__(self, deadlines: Deadlines, log: list[str], name: str) -> None:
        self.deadlines, self.log, self.name = deadlines, log, name
        self.settled = False

    def settle(self) -> None:
        self.settled = True
        self.deadlines.drop()

    def expire(self) -> None:
        self.log.append(self.name)
        self.settle()


@on_both_loops
async def test_items_expire_in_the_order_of_their_deadlines() -> None:
    loop = asyncio.get_running_loop()
    deadlines, log = Deadlines(loop), list[str]()
    now = loop.time()
    for name, after in (("late", 0.03), ("early", 0.01), ("past", -1.0), ("middle", 0.02)):
        deadlines.add(now + after, Item(deadlines, log, name))
    await until(lambda: len(log) == 4)
    assert log == ["past", "early", "middle", "late"]
    assert loop.time() >= now + 0.03 - 0.002  # uvloop's clock has whole milliseconds
    assert len(deadlines) == 0


@on_both_loops
async def test_what_settled_never_expires() -> None:
    loop = asyncio.get_running_loop()
    deadlines, log = Deadlines(loop), list[str]()
    gone = Item(deadlines, log, "gone")
    deadlines.add(loop.time() + 0.005, gone)
    deadlines.add(loop.time() + 0.01, Item(deadlines, log, "stays"))
    gone.settle()
    await until(lambda: len(log) == 1)
    assert log == ["stays"]


@on_both_loops
async def test_one_that_settles_another_of_the_same_instant() -> None:
    loop = asyncio.get_running_loop()
    deadlines, log = Deadlines(loop), list[str]()
    second = Item(deadlines, log, "second")

    class First(Item):
        def expire(self) -> None:
            super().expire()
            second.settle()
            self.deadlines.add(loop.time() + 0.005, Item(deadlines, log, "third"))

    instant = loop.time() + 0.005
    deadlines.add(instant, First(deadlines, log, "first"))
    deadlines.add(instant, second)
    await until(lambda: len(log) == 2)
    assert log == ["first", "third"]
    assert len(deadlines) == 0


@on_both_loops
async def test_nothing_expires_after_close() -> None:
    loop = asyncio.get_running_loop()
    deadlines, log = Deadlines(loop), list[str]()
    deadlines.add(loop.time(), Item(deadlines, log, "never"))
    deadlines.close()
    deadlines.close()
    await asyncio.sleep(0.01)
    assert log == []
    assert len(deadlines) == 0


@given(st.lists(st.tuples(st.integers(0, 100), st.booleans()), max_size=3000))
def test_the_heap_holds_no_more_than_twice_what_runs(steps: list[tuple[int, bool]]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        deadlines, log = Deadlines(loop), list[str]()
        running: list[Item] = []
        for after, settle in steps:
            if settle and running:
                running.pop(after % len(running)).settle()
            else:
                item = Item(deadlines, log, "")
                running.append(item)
                deadlines.add(loop.time() + 100 + after, item)
            assert len(deadlines) <= 2 * len(running) + STALE_MIN + 2
        deadlines.close()

    run(main())


def test_settled_items_are_let_go_of_under_load() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        deadlines, log = Deadlines(loop), list[str]()
        for _ in range(10 * STALE_MIN):
            item = Item(deadlines, log, "")
            deadlines.add(loop.time() + 100, item)
            item.settle()
        assert len(deadlines) <= STALE_MIN + 1
        deadlines.close()

    run(main())
