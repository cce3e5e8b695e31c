from homing.core.codec import TAG
from homing.engines.zmq_outbox import CUT_BYTES, CUT_FRAMES, HELD_BYTES_MAX, Outbox


def all_of(outbox: Outbox) -> list[list[bytes]]:
    messages = []
    while (frames := outbox.first()) is not None:
        messages.append(frames)
        outbox.left()
    return messages


def test_all_that_is_said_leaves_as_one_message_in_order() -> None:
    outbox = Outbox()
    assert outbox.first() is None
    assert outbox.add(b"1", b"")
    assert outbox.add(b"2", b"body")
    assert outbox.first() == [TAG, b"1", b"", b"2", b"body"]
    assert outbox.first() is outbox.first()
    outbox.left()
    assert outbox.first() is None


def test_what_is_said_after_it_was_looked_at_is_in_the_next() -> None:
    outbox = Outbox()
    outbox.add(b"1", b"")
    assert outbox.first() == [TAG, b"1", b""]
    outbox.add(b"2", b"")
    assert all_of(outbox) == [[TAG, b"1", b""], [TAG, b"2", b""]]


def test_many_are_cut_into_messages_that_end() -> None:
    outbox = Outbox()
    count = CUT_FRAMES
    for number in range(count):
        outbox.add(b"%d" % number, b"")
    messages = all_of(outbox)
    assert max(len(frames) for frames in messages) == CUT_FRAMES
    assert [frame for frames in messages for frame in frames[1::2]] == [b"%d" % number for number in range(count)]
    assert all(frames[0] == TAG for frames in messages)


def test_large_ones_are_cut_by_their_bytes() -> None:
    outbox = Outbox()
    for _ in range(10):
        outbox.add(b"h", b"x" * (CUT_BYTES // 2))
    assert [len(frames) for frames in all_of(outbox)] == [5] * 5


def test_frames_of_others_are_a_message_of_their_own_at_their_place() -> None:
    outbox = Outbox()
    outbox.add(b"1", b"")
    outbox.add_frames([b"", b"MDPW01", b"\x02"])
    outbox.add(b"2", b"")
    assert all_of(outbox) == [[TAG, b"1", b""], [b"", b"MDPW01", b"\x02"], [TAG, b"2", b""]]


def test_what_is_held_is_counted_and_bounded() -> None:
    outbox = Outbox()
    body = b"x" * (HELD_BYTES_MAX // 4 - 1)
    assert [outbox.add(b"h", body) for _ in range(6)] == [True] * 4 + [False] * 2
    assert outbox.held_bytes == HELD_BYTES_MAX
    assert not outbox.add_frames([b"x"])
    assert len(all_of(outbox)) == 4
    assert outbox.held_bytes == 0
    assert outbox.add(b"h", body)


def test_one_alone_may_be_larger_than_the_bound() -> None:
    outbox = Outbox()
    assert outbox.add(b"", b"x" * (HELD_BYTES_MAX + 1))
    assert not outbox.add(b"", b"x")
    other = Outbox()
    assert other.add_frames([b"x" * (HELD_BYTES_MAX + 1)])


def test_cleared_it_holds_nothing() -> None:
    outbox = Outbox()
    outbox.add_frames([b"x"])
    outbox.add(b"1", b"body")
    outbox.clear()
    assert outbox.first() is None
    assert outbox.held_bytes == 0
