"""Requests in any segments: however `http_connection` gets them, what comes of them is the same."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.edges.http_connection import DISCARD_BYTES_MAX, READ_AHEAD_BYTES_MAX
from homing.edges.http_exchange import KNOWN_HEAD_BYTES_MAX, KNOWN_HEADS_MAX, PIPELINE_MAX, Exchange
from homing.edges.http_head import Head, ListenerLimits
from tests.edges.corpus import BAD, GOOD, Case
from tests.edges.lines import TEXT, Line, echo, post

LIMITS = ListenerLimits(header_timeout_s=10, body_timeout_s=30, idle_timeout_s=75, write_timeout_s=10)
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def remembering(exchange: Exchange) -> None:
    exchange.remember("seen")
    echo(exchange)


HEADS: dict[bytes, Head] = {}
"""Every head of the corpus that can be remembered."""

for _case in GOOD:
    _line = Line(reply=remembering).feed(_case.data)
    HEADS.update(_line.connection.shared.heads)


def outcome(*segments: bytes, heads: dict[bytes, Head] | None = None) -> tuple:
    """All that can be told apart from outside, and nothing of when it happened."""
    line = Line(reply=echo)
    line.connection.shared.heads = dict(heads or {})
    line.feed(*segments)
    finals = [(answer.status, answer.headers, answer.body) for answer in line.answers if answer.status >= 200]
    held = line.held
    line.lose()
    assert line.held == 0
    assert not line.connection.shared.callers
    return finals, line.seen, line.refusals, line.over, held


@pytest.mark.parametrize("case", GOOD + BAD, ids=lambda case: case.name)
def test_each_request_gets_what_it_should(case: Case) -> None:
    finals, seen, _, over, held = outcome(case.data)
    assert [final[0] for final in finals] == case.statuses
    assert [request[-1] for request in seen] == case.bodies
    assert over is not case.stays
    assert held == 0
    assert (finals[-1][1].get("connection") == "close") is over


@pytest.mark.parametrize("case", GOOD + BAD, ids=lambda case: case.name)
def test_cuts_change_nothing(case: Case) -> None:
    """Split in two at every byte, and byte by byte."""
    data = case.data
    expected = outcome(data)
    places = range(1, len(data)) if len(data) < 1500 else [*range(1, 300), *range(8100, 8300), *range(len(data) - 200, len(data))]
    for at in places:
        assert outcome(data[:at], data[at:]) == expected, at
    assert outcome(*[data[at : at + 1] for at in range(len(data))]) == expected


@pytest.mark.parametrize("case", GOOD + BAD, ids=lambda case: case.name)
def test_a_head_that_came_before_changes_nothing(case: Case) -> None:
    assert outcome(case.data, heads=HEADS) == outcome(case.data)


@given(st.data())
def test_heads_that_came_before_in_any_segments(data: st.DataObject) -> None:
    stream = b"".join(data.draw(st.lists(st.sampled_from([case.data for case in GOOD + BAD] + [*HEADS]), min_size=1, max_size=4)))
    segments = []
    while stream:
        size = data.draw(st.integers(1, len(stream)) | st.just(len(stream)))
        segments.append(stream[:size])
        stream = stream[size:]
    assert outcome(*segments, heads=HEADS) == outcome(*segments)


def test_only_heads_that_leave_nothing_to_decide_are_remembered() -> None:
    assert HEADS
    for case in GOOD + BAD:
        line = Line(reply=remembering).feed(case.data)
        for head in line.connection.shared.heads.values():
            assert head.length > 0
            assert head.keep
            assert not head.expects
            assert head.known == "seen"
    long = post(b"1").replace(b"Host: gateway", b"Host: gateway\r\nX: " + b"y" * KNOWN_HEAD_BYTES_MAX)
    assert not Line(reply=remembering).feed(long).connection.shared.heads


def test_what_is_remembered_of_heads_is_bounded() -> None:
    line = Line(reply=remembering)
    for number in range(KNOWN_HEADS_MAX + 3):
        line.feed(post(b"1").replace(b"Host: gateway", b"Host: a%d" % number))
    heads = line.connection.shared.heads
    assert len(heads) == KNOWN_HEADS_MAX
    assert b"Host: a2\r" not in b"".join(heads)
    assert b"Host: a3\r" in b"".join(heads)


def test_a_known_head_is_held_to_the_limits_of_now() -> None:
    line = Line(reply=remembering, limits=ListenerLimits(held_bytes_max=5)).feed(post(b"123"))
    line.connection.shared.held_bytes = 3
    line.feed(post(b"123"))
    assert line.statuses == [200, 503]


def test_a_known_head_waits_its_turn() -> None:
    line = Line(reply=remembering).feed(post(b"1"))
    line.reply = None
    line.feed(post(b"2"), post(b"3"))
    second, third = line.exchanges[1:]
    third.answer(200, TEXT, b"three")
    assert len(line.answers) == 1
    second.answer_ok(b"A: b\r\n", b"two")
    assert [answer.body for answer in line.answers[1:]] == [b"two", b"three"]
    assert line.answers[1].headers["a"] == "b"
    assert line.held == 0


def test_a_fault_of_whoever_answers_a_known_head() -> None:
    line = Line(reply=remembering).feed(post(b"1"))

    def fault(exchange: Exchange) -> None:
        raise RuntimeError

    line.reply = fault
    line.feed(post(b"1"))
    assert line.transport.aborted
    assert line.held == 0
    assert line.loop.reports


WORDS = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"abc",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"0\r\n",
    b"HTTP/1.0\r\n",
    b"POST / ",
]
LINES = [b"POST / HTTP/1.1", b"GET / HTTP/1.1", b"Host: a", b"Content-Length: 3", b"X: y", b"Connection: close"]
LINES += [b"Transfer-Encoding: chunked", b"Expect: 100-continue"]
_part = (
    st.sampled_from([*WORDS, *(line + b"\r\n" for line in LINES)])
    | st.binary(max_size=4)
    | st.sampled_from([case.data for case in GOOD + BAD])
)


@given(st.lists(_part, max_size=12), st.data())
def test_whatever_comes_in_whatever_segments(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    segments = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        segments.append(stream[:size])
        stream = stream[size:]
    assert outcome(*segments) == outcome(b"".join(segments))


@given(st.sampled_from(GOOD), st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3))
def test_one_wrong_byte_never_raises(case: Case, at: int, bytes_in: bytes, bytes_out: int) -> None:
    at = min(at, len(case.data))
    outcome(case.data[:at] + bytes_in + case.data[at + bytes_out :] + post(b"x"))


# Pipelining


def test_answers_leave_in_the_order_of_their_requests() -> None:
    line = Line().feed(post(b"1") + post(b"2") + post(b"3"))
    first, second, third = line.exchanges
    third.answer(200, TEXT, b"three")
    assert line.answers == []
    assert line.held == 2 + len(b"three")
    first.answer(200, TEXT, b"one")
    assert [answer.body for answer in line.answers] == [b"one"]
    second.answer(200, TEXT, b"two")
    assert [answer.body for answer in line.answers] == [b"one", b"two", b"three"]
    assert line.transport.writes == 2  # what could leave together did
    assert line.held == 0


def test_answers_of_one_segment_leave_in_one_write() -> None:
    line = Line(reply=echo).feed(post(b"1") * 10)
    assert len(line.answers) == 10
    assert line.transport.writes == 1


def test_more_than_so_many_requests_wait_their_turn() -> None:
    line = Line().feed(b"".join(post(b"%d" % n) for n in range(PIPELINE_MAX + 3)))
    assert len(line.exchanges) == PIPELINE_MAX
    assert line.transport.reading
    for n in range(PIPELINE_MAX + 3):
        line.exchanges[n].answer(200, TEXT, b"%d" % n)
        line.loop.turn()
    assert [answer.body for answer in line.answers] == [b"%d" % n for n in range(PIPELINE_MAX + 3)]
    assert line.held == 0


def test_reading_pauses_when_too_much_waits_and_goes_on_after() -> None:
    line = Line().feed(post(b"x") * PIPELINE_MAX)
    body = b"y" * 1000
    for _ in range(70):
        line.feed(post(body))
    assert not line.transport.reading
    assert line.held > READ_AHEAD_BYTES_MAX
    for n in range(PIPELINE_MAX + 70):
        line.exchanges[n].answer(200, TEXT, b"%d" % n)
        line.loop.turn()
    assert line.transport.reading
    assert [answer.body for answer in line.answers] == [b"%d" % n for n in range(PIPELINE_MAX + 70)]
    assert line.held == 0


def test_no_time_runs_against_a_caller_whose_requests_wait_for_us() -> None:
    line = Line().feed(post(b"x") * (PIPELINE_MAX + 1) + b"POST")
    line.pass_time(10_000)
    assert not line.over
    for exchange in list(line.exchanges):
        exchange.answer(200, TEXT, b"")
    line.loop.turn()
    line.exchanges[-1].answer(200, TEXT, b"")
    line.pass_time(11)  # and now it does: of the last request only a beginning has come
    assert line.statuses[-1] == 408


def test_a_refusal_waits_for_the_answers_before_it() -> None:
    line = Line().feed(post(b"1") + b"nonsense\r\n\r\n")
    assert line.answers == []
    line.exchanges[0].answer(200, TEXT, b"one")
    assert line.statuses == [200, 400]
    assert line.transport.eof


def test_what_follows_a_last_request_is_never_read() -> None:
    line = Line().feed(post(b"1", b"/", b"Connection: close") + post(b"2"), post(b"3"))
    assert len(line.exchanges) == 1
    line.feed(b"x" * (DISCARD_BYTES_MAX + 1))
    assert not line.transport.reading
    line.exchanges[0].answer(200, TEXT, b"")
    assert line.transport.eof
    assert line.transport.reading


# 100-continue

OFFER = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"


def test_a_body_is_asked_for_once_its_head_is_accepted() -> None:
    line = Line(reply=echo).feed(OFFER[:-2])
    assert line.answers == []
    line.feed(OFFER[-2:])
    assert [answer.status for answer in line.answers] == [100]
    line.feed(b"abc")
    assert [answer.status for answer in line.answers] == [100, 200]
    assert line.answers[1].body == b"abc"


def test_a_chunked_body_is_asked_for() -> None:
    line = Line(reply=echo).feed(OFFER.replace(b"Content-Length: 3", b"Transfer-Encoding: chunked"))
    assert [answer.status for answer in line.answers] == [100]
    line.feed(b"1\r\nx\r\n0\r\n\r\n")
    assert line.statuses == [200]


def test_a_body_that_is_coming_anyway_is_not_asked_for() -> None:
    assert [answer.status for answer in Line(reply=echo).feed(OFFER + b"a", b"bc").answers] == [200]
    assert [answer.status for answer in Line(reply=echo).feed(OFFER.replace(b"3", b"0")).answers] == [200]


def test_a_body_is_asked_for_after_the_answers_before_it() -> None:
    line = Line().feed(post(b"1") + OFFER)
    assert line.answers == []
    line.exchanges[0].answer(200, TEXT, b"")
    assert [answer.status for answer in line.answers] == [200, 100]
    line = Line().feed(post(b"1") + OFFER, b"abc")
    line.exchanges[0].answer(200, TEXT, b"")
    assert [answer.status for answer in line.answers] == [200]


def test_the_time_for_a_body_begins_when_it_is_asked_for_or_comes() -> None:
    line = Line(LIMITS).feed(post(b"1") + OFFER)
    line.pass_time(100)
    line.exchanges[0].answer(200, TEXT, b"")
    assert [answer.status for answer in line.answers] == [200, 100]
    line.pass_time(29)
    assert line.statuses == [200]
    line.pass_time(1)
    assert line.statuses == [200, 408]
    line = Line(LIMITS).feed(post(b"1") + OFFER, b"a")
    line.pass_time(30)
    line.exchanges[0].answer(200, TEXT, b"")
    assert line.statuses == [200, 408]


def test_an_offer_that_is_refused_is_never_asked_for() -> None:
    line = Line().feed(OFFER.replace(b"3", b"1048577"))
    assert [answer.status for answer in line.answers] == [413]
    assert line.transport.eof


ORIGIN = b"Origin:\thttps://shop.example "
REFUSED = {
    "413 announced": (post(b"", b"/rpc", ORIGIN).replace(b"Length: 0", b"Length: 9999999"), 0),
    "413 chunked": (b"POST / HTTP/1.1\r\nHost: a\r\n" + ORIGIN + b"\r\nTransfer-Encoding: chunked\r\n\r\nffffff\r\n", 0),
    "417": (post(b"", b"/rpc", ORIGIN, b"Expect: more"), 0),
    "400 line": (b"POST\r\n" + ORIGIN + b"\r\n\r\n", 0),
    "400 host": (b"POST / HTTP/1.1\r\n" + ORIGIN + b"\r\n\r\n", 0),
    "431": (b"POST / HTTP/1.1\r\n" + ORIGIN + b"\r\nX: " + b"y" * (32 << 10), 0),
    "408 head": (b"POST / HTTP/1.1\r\n" + ORIGIN + b"\r\nX", 10),
    "408 body": (post(b"abc", b"/rpc", ORIGIN)[:-1], 30),
}


@pytest.mark.parametrize("name", REFUSED)
def test_who_refuses_is_told_of_the_origin(name: str) -> None:
    data, wait_s = REFUSED[name]
    line = Line(LIMITS).feed(data)
    line.pass_time(wait_s)
    assert line.statuses == [int(name[:3])]
    assert line.origins == [b"https://shop.example"]


@pytest.mark.parametrize("held", [2, 200])
def test_who_refuses_for_want_of_room_is_told_of_the_origin(held: int) -> None:
    data = post(b"abc", b"/rpc", ORIGIN)
    line = Line(ListenerLimits(held_bytes_max=held)).feed(data if held == 2 else data[:-7] + b"\r\nX: " + b"y" * 200)
    assert (line.statuses, line.origins) == ([503], [b"https://shop.example"])


@pytest.mark.parametrize(
    "fields", [b"", b"X-Origin: a\r\n", b"Origin: a\r\nOrigin: a\r\n", b"Origin: a b\r\n", b"Orig", b"Origin: https://shop.exam"]
)
def test_no_origin_is_told_where_there_is_none_or_another(fields: bytes) -> None:
    line = Line(LIMITS).feed(b"POST / HTTP/1.1\r\n" + fields)
    line.pass_time(10)
    line.feed()
    assert line.origins == [None]
    line = Line(LIMITS).feed(b"POST\r\n\r\nOrigin: body\r\n\r\n")
    assert line.origins == [None]


def test_a_refusal_of_what_comes_with_a_head_request_has_no_body() -> None:
    line = Line().feed(b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n")
    assert bytes(line.transport.sent).startswith(b"HTTP/1.1 400 ")
    assert bytes(line.transport.sent).endswith(b"\r\n\r\n")


# Time


def test_an_idle_connection_is_closed_without_a_word() -> None:
    line = Line(LIMITS, reply=echo)
    line.pass_time(74)
    line.feed(post(b"1"))
    line.pass_time(74)
    assert not line.over
    line.pass_time(2)
    assert line.transport.closing
    assert line.statuses == [200]


def test_an_empty_line_does_not_count_as_a_request() -> None:
    line = Line(LIMITS).feed(b"\r", b"\n")
    line.pass_time(74)
    assert not line.over
    line.pass_time(2)
    assert line.transport.closing
    assert line.answers == []


@pytest.mark.parametrize("beginning", [b"P", b"\r", b"POST / HTTP/1.1\r\nHost: a\r\n"])
def test_a_slow_head_is_told_so(beginning: bytes) -> None:
    line = Line(LIMITS, reply=echo).feed(post(b"1"), beginning)
    for _ in range(9):
        line.pass_time(1)
        assert not line.over
    line.pass_time(1)
    assert line.statuses == [200, 408]
    assert line.refusals[0][2] == "gateway.timeout.header"
    assert line.transport.eof


def test_a_dripping_head_gets_no_more_time() -> None:
    line = Line(LIMITS)
    for byte in b"POST / HTTP/1.1\r\n":
        line.feed(bytes([byte]))
        line.pass_time(0.7)
    assert line.statuses == [408]


@pytest.mark.parametrize(
    "head", [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n", CHUNKED + b"99\r\n"], ids=["announced", "chunked"]
)
def test_a_dripping_body_gets_no_more_time(head: bytes) -> None:
    line = Line(LIMITS).feed(head)
    for _ in range(29):
        line.feed(b"x")
        line.pass_time(1)
        assert not line.over
    line.pass_time(1)
    assert line.statuses == [408]
    assert line.refusals[0][2] == "gateway.timeout.body"
    assert line.held == 0


def test_a_call_that_waits_is_not_idle() -> None:
    line = Line(LIMITS).feed(post(b"1"))
    line.pass_time(300)
    assert not line.over
    line.exchanges[0].answer(200, TEXT, b"")
    line.pass_time(74)
    assert not line.over
    line.pass_time(1)
    assert line.over


def test_a_slow_head_behind_an_open_call_is_refused_in_its_turn() -> None:
    line = Line(LIMITS).feed(post(b"1") + b"POST /")
    line.pass_time(11)
    assert line.answers == []
    line.exchanges[0].answer(200, TEXT, b"")
    assert line.statuses == [200, 408]


# Bytes held


def test_bodies_are_held_until_they_are_answered() -> None:
    line = Line().feed(post(b"x" * 100))
    assert line.held == 100
    line.feed(post(b"y" * 50)[:-10])
    assert line.held == 140
    line.feed(b"y" * 10, CHUNKED + b"5\r\nabcde\r\n0\r\n\r\n")
    assert line.held == 155
    for exchange in line.exchanges:
        exchange.answer(204, [], b"")
    assert line.held == 0


def test_an_announced_body_that_cannot_be_held_is_refused() -> None:
    line = Line(ListenerLimits(held_bytes_max=100)).feed(post(b"x" * 60), post(b"y" * 41)[:-41])
    line.exchanges[0].answer(200, TEXT, b"")
    assert line.statuses == [200, 503]
    assert line.refusals[0][2] == "gateway.held_bytes_max"
    assert line.held == 0


def test_a_body_that_cannot_be_held_any_longer_is_refused() -> None:
    line = Line(ListenerLimits(held_bytes_max=100)).feed(post(b"x" * 80)[:-30])
    other = Line(shared=line.connection.shared).feed(post(b"y" * 45))
    assert line.held == 95
    line.feed(b"x" * 10)
    assert line.statuses == [503]
    assert line.held == 45
    other.lose()
    assert line.held == 0


def test_a_chunked_body_that_cannot_be_held_is_refused() -> None:
    line = Line(ListenerLimits(held_bytes_max=100)).feed(CHUNKED + b"40\r\n" + b"x" * 64 + b"\r\n")
    assert line.held == 64
    line.feed(b"40\r\n" + b"x" * 64)
    assert line.statuses == [503]
    assert line.held == 0


def test_a_head_that_cannot_be_held_is_refused() -> None:
    line = Line(ListenerLimits(held_bytes_max=100)).feed(b"POST / HTTP/1.1\r\nX: " + b"x" * 100)
    assert line.statuses == [503]
    assert line.held == 0


def test_bytes_that_waited_are_not_counted_twice_when_their_turn_comes() -> None:
    line = Line(ListenerLimits(held_bytes_max=1200)).feed(post(b"") * PIPELINE_MAX)
    line.feed(post(b"y" * 1000))
    assert line.held > 1000
    line.exchanges[0].answer(200, TEXT, b"")
    line.loop.turn()
    assert len(line.exchanges) == PIPELINE_MAX + 1
    assert line.held == 1000


def test_where_too_much_is_held_nobody_reads_ahead() -> None:
    line = Line(ListenerLimits(held_bytes_max=200)).feed(post(b"x") * PIPELINE_MAX)
    line.feed(post(b"y" * 200))
    assert not line.transport.reading


# Ends


def test_a_refused_body_is_read_past_so_that_the_refusal_arrives() -> None:
    line = Line(LIMITS).feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
    assert line.statuses == [413]
    assert line.transport.eof
    for _ in range(8):
        line.feed(b"x" * (1 << 20))
        assert not line.transport.closing
    line.feed(b"x")
    assert line.transport.closing


def test_a_refused_body_is_read_past_for_two_seconds() -> None:
    line = Line(LIMITS).feed(b"nonsense\r\n\r\n")
    line.pass_time(1.9)
    assert not line.transport.closing
    line.pass_time(0.2)
    assert line.transport.closing


def test_tls_has_no_half_close_but_lingers_after_a_refusal() -> None:
    line = Line(LIMITS, half_closes=False).feed(b"nonsense\r\n\r\n")
    assert line.statuses == [400]
    assert not line.over
    line.pass_time(2)
    assert line.transport.closing
    line = Line(LIMITS, reply=echo, half_closes=False).feed(post(b"", b"/", b"Connection: close"))
    assert line.transport.closing


def test_a_head_request_gets_no_body_even_if_refused() -> None:
    line = Line().feed(b"HEAD / HTTP/1.1\r\n\r\n")
    assert bytes(line.transport.sent).endswith(b"Content-Length: 8\r\n\r\n")


def test_an_answer_function_that_raises_costs_its_connection_only() -> None:
    def reply(exchange: Exchange) -> None:
        raise ValueError("no")

    line = Line(reply=reply).feed(post(b"1") + post(b"2"))
    assert line.transport.aborted
    assert line.answers == []
    assert len(line.seen) == 1
    assert isinstance(line.loop.reports[0]["exception"], ValueError)
    assert line.held == 0


def test_parting_says_so_with_the_next_answer_and_not_before() -> None:
    idle = Line()
    shared = idle.connection.shared
    open_, begun = Line(shared=shared), Line(shared=shared)
    open_.feed(post(b"1"))
    begun.feed(post(b"2") + post(b"3")[:20])
    shared.parting = True
    for line in (idle, open_, begun):
        line.connection.part()
    assert not any(line.over for line in (idle, open_, begun))
    idle.feed(post(b"4"))
    begun.feed(post(b"3")[20:])
    assert [exchange.body for exchange in idle.exchanges] == [b"1", b"2", b"4", b"3"]
    for exchange in idle.exchanges:
        exchange.answer(200, TEXT, b"")
    assert [bytes(line.transport.sent).count(b"Connection: close") for line in (idle, open_, begun)] == [1, 1, 1]
    assert [line.statuses for line in (idle, open_, begun)] == [[200], [200], [200, 200]]
    assert all(line.over for line in (idle, open_, begun))


def test_draining_answers_what_is_open_and_reads_what_has_begun() -> None:
    idle = Line()
    shared = idle.connection.shared
    open_, begun, body, blocked = (Line(shared=shared) for _ in range(4))
    open_.feed(post(b"1"))
    begun.feed(post(b"2")[:20])
    body.feed(post(b"33")[:-1])
    blocked.feed(post(b"4") + post(b"5")[:20])
    exchanges = idle.exchanges  # all go to the one listener
    shared.closing = shared.parting = True
    for line in (idle, open_, begun, body, blocked):
        line.connection.drain()
    assert idle.transport.closing
    assert not any(line.over for line in (open_, begun, body, blocked))
    blocked.feed(post(b"5")[20:])
    begun.feed(post(b"2")[20:] + post(b"6"))
    body.feed(b"3")
    assert [exchange.body for exchange in exchanges] == [b"1", b"4", b"2", b"33"]
    for exchange in exchanges:
        exchange.answer(200, TEXT, b"")
    for line in (open_, begun, body, blocked):
        assert line.statuses == [200]
        assert line.answers[0].headers["connection"] == "close"
        assert line.transport.eof
    late = Line(shared=shared)
    assert late.transport.closing


def test_an_answer_that_left_before_the_drain_closes_after_the_rest_of_a_head_never_came() -> None:
    line = Line(LIMITS).feed(post(b"1"))
    line.connection.shared.closing = True
    line.exchanges[0].answer(200, TEXT, b"")
    assert line.over
