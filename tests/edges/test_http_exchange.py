"""`http_exchange`: answered once and in turn, heartbeats, callers who do not read, and callers who are gone."""

import pytest

from homing.edges.http_exchange import NO_HEAD, PIPELINE_MAX, Exchange
from homing.edges.http_head import ListenerLimits
from homing.edges.http_reply import CONTINUE
from tests.edges.lines import TEXT, Line, echo, post

LIMITS = ListenerLimits(heartbeat_s=20, write_timeout_s=10)
JSON = [(b"Content-Type", b"application/json"), (b"Homing-Call-Id", b"c1")]


def test_an_exchange_says_what_was_asked() -> None:
    line = Line().feed(post(b"{}", b"/a?b=c", b"X-Y: z"))
    (exchange,) = line.exchanges
    assert (exchange.method, exchange.path, exchange.query, exchange.http_version) == ("POST", "/a", "b=c", "1.1")
    assert exchange.body == b"{}"
    assert exchange.peer == "192.0.2.7:4711"
    assert exchange.secure is False
    assert exchange.header(b"x-y") == b"z"
    assert exchange.header(b"x-z") is None
    exchange.slim()
    assert exchange.head is NO_HEAD  # or it would hold every field a second time
    assert exchange.headers == [(b"host", b"gateway"), (b"content-length", b"2"), (b"x-y", b"z")]
    assert exchange.header(b"x-y") == b"z"
    line.lose()
    assert exchange.peer == ""


@pytest.mark.parametrize(("address", "text"), [(("::1", 80, 0, 0), "[::1]:80"), ("/run/homing.sock", "")])
def test_a_peer_is_written_as_in_an_address(address: object, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Line().feed(post())
    monkeypatch.setattr(line.transport, "get_extra_info", lambda name: address)
    assert line.exchanges[0].peer == text


def test_there_is_one_answer() -> None:
    line = Line().feed(post())
    line.exchanges[0].answer(200, TEXT, b"one")
    with pytest.raises(RuntimeError, match="answered"):
        line.exchanges[0].answer(200, TEXT, b"two")
    assert [answer.body for answer in line.answers] == [b"one"]


def test_an_answer_inside_the_callback_raises_nothing_the_second_time_either() -> None:
    def reply(exchange: Exchange) -> None:
        exchange.answer(200, TEXT, b"one")
        exchange.answer(200, TEXT, b"two")

    line = Line(reply=reply).feed(post())
    assert isinstance(line.loop.reports[0]["exception"], RuntimeError)
    assert line.transport.aborted


# Callers who are gone


def abandonable(line: Line) -> list[int]:
    told: list[int] = []
    for number, exchange in enumerate(line.exchanges):
        exchange.abandoned = lambda number=number: told.append(number)
    return told


@pytest.mark.parametrize("how", ["eof", "lost", "reset"])
def test_a_hang_up_abandons_what_is_open_once(how: str) -> None:
    line = Line().feed(post(b"1") + post(b"2") + post(b"3"))
    told = abandonable(line)
    line.exchanges[1].answer(200, TEXT, b"two")
    if how == "eof":
        line.connection.eof_received()
    elif how == "reset":
        line.connection.reset()
    line.lose()
    assert told == [0, 2]
    assert [exchange.gone for exchange in line.exchanges] == [True, False, True]
    assert line.connection.shared.abandoned == 2
    assert line.held == 0
    line.exchanges[0].answer(200, TEXT, b"late")
    with pytest.raises(RuntimeError):
        line.exchanges[0].answer(200, TEXT, b"later")
    assert line.answers == []


def test_nobody_is_told_of_the_end_of_what_was_answered() -> None:
    line = Line().feed(post(b"1"))
    told = abandonable(line)
    line.exchanges[0].answer(200, TEXT, b"")
    line.lose()
    assert told == []
    assert not line.exchanges[0].gone


def test_a_callback_that_raises_keeps_nobody_else_from_being_told() -> None:
    line = Line().feed(post(b"1") + post(b"2"))
    told = abandonable(line)

    def fail() -> None:
        raise ValueError("no")

    line.exchanges[0].abandoned = fail
    line.lose()
    assert told == [1]
    assert isinstance(line.loop.reports[0]["exception"], ValueError)


def test_an_answer_to_a_transport_that_has_broken_goes_nowhere() -> None:
    line = Line().feed(post(b"1"), post(b"2", b"/", b"Connection: close"))
    line.transport.closing = True  # its loss has not been told yet
    line.exchanges[0].answer(200, TEXT, b"")
    line.exchanges[1].answer(200, TEXT, b"")
    assert line.transport.writes == 0
    assert not line.transport.eof
    line.lose()
    assert line.held == 0


@pytest.mark.parametrize("how", ["eof", "close"])
def test_what_was_written_before_the_end_is_flushed_as_long_as_it_is_read(how: str) -> None:
    line = Line(LIMITS, reply=echo)
    line.transport.room = 10
    line.feed(post(b"x" * 1000))
    if how == "eof":
        line.connection.eof_received()
    else:
        line.connection.close()
    for _ in range(3):
        line.transport.read_by_caller(5)
        line.pass_time(10)
        assert not line.transport.aborted
    line.pass_time(10)
    assert line.transport.aborted
    assert line.held == 0


# Callers who do not read


def test_who_reads_nothing_is_reset_and_what_is_open_abandoned() -> None:
    line = Line(LIMITS)
    line.transport.room = 100
    line.feed(post(b"1") + post(b"2"))
    told = abandonable(line)
    line.exchanges[0].answer(200, TEXT, b"x" * 1000)
    assert line.held > 900  # what nobody reads is held
    line.pass_time(9)
    assert not line.transport.aborted
    line.pass_time(1)
    assert line.transport.aborted
    assert told == [1]
    assert line.connection.shared.resets == 1
    assert line.held == 0


def test_who_reads_slowly_is_waited_for() -> None:
    line = Line(LIMITS, reply=echo)
    line.transport.room = 100
    line.feed(post(b"x" * 1000))
    for _ in range(20):  # longer than a connection may idle
        line.transport.read_by_caller(10)
        line.pass_time(9.9)
        line.pass_time(0.1)
    assert not line.over
    line.transport.read_by_caller()
    assert line.statuses == [200]
    assert line.held == 0
    line.pass_time(74)
    assert not line.over
    line.pass_time(1)
    assert line.transport.closing


def test_no_further_request_is_read_while_the_caller_does_not_read() -> None:
    line = Line(reply=echo)
    line.transport.room = 100
    line.feed(post(b"x" * 1000), post(b"2") + post(b"3"))
    assert len(line.seen) == 1
    line.transport.read_by_caller()
    assert len(line.seen) == 3
    assert line.statuses == [200] * 3
    assert line.held == 0


def test_a_flood_of_requests_fills_no_memory_with_answers() -> None:
    line = Line(reply=lambda exchange: exchange.answer(200, TEXT, b"x" * 4000))
    line.transport.room = 100
    line.feed(post() * 1000)
    assert len(line.seen) <= PIPELINE_MAX
    assert len(line.transport.kept) < (PIPELINE_MAX + 1) * 5000
    assert line.held == len(line.transport.kept) + len(line.connection.buffer)
    line.transport.read_by_caller()
    assert len(line.statuses) == 1000
    assert line.held == 0


def test_answers_that_come_while_the_caller_does_not_read_are_held_too() -> None:
    line = Line()
    line.feed(post(b"1") + post(b"2"))
    line.transport.room = 0
    line.exchanges[0].answer(200, TEXT, b"x" * 1000)
    line.exchanges[1].answer(200, TEXT, b"y" * 100_000)  # too large to be joined with its head
    assert line.held == len(line.transport.kept)
    line.transport.read_by_caller()
    assert line.statuses == [200, 200]
    assert line.held == 0


def test_a_last_answer_is_written_to_its_end_before_the_two_seconds_begin() -> None:
    line = Line(LIMITS, reply=echo)
    line.transport.room = 100
    line.feed(post(b"x" * 1000, b"/", b"Connection: close"))
    assert line.transport.eof
    line.pass_time(5)
    assert not line.transport.closing
    line.transport.read_by_caller()
    line.pass_time(1)
    assert not line.transport.closing
    line.pass_time(1)
    assert line.transport.closing
    line.connection.resume_writing()  # too late to matter
    assert line.held == 0


def test_a_pause_after_the_end_holds_nothing() -> None:
    line = Line()
    line.connection.eof_received()
    line.connection.pause_writing()
    assert line.held == 0


# Heartbeat


def test_an_open_call_gets_its_head_after_one_interval_and_a_space_each() -> None:
    line = Line(LIMITS).feed(post(b"1"))
    line.exchanges[0].start_heartbeat(JSON)
    line.pass_time(19)
    assert line.transport.sent == b""
    line.pass_time(1)
    head = bytes(line.transport.sent)
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert head.endswith(b"Homing-Call-Id: c1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n \r\n")
    line.pass_time(19)
    assert bytes(line.transport.sent) == head
    line.pass_time(1)
    assert bytes(line.transport.sent) == head + b"1\r\n \r\n"
    line.exchanges[0].answer(503, TEXT, b'{"a":1}')  # its head has gone
    (answer,) = line.answers
    assert (answer.status, answer.body) == (200, b'  {"a":1}')
    assert "connection" not in answer.headers
    line.feed(post(b"2"))
    line.exchanges[1].answer(200, TEXT, b"")
    assert line.statuses == [200, 200]
    line.pass_time(70)
    assert len(line.answers) == 2


def test_a_call_that_is_answered_in_time_gets_an_ordinary_answer() -> None:
    line = Line(LIMITS).feed(post(b"1"))
    line.exchanges[0].start_heartbeat(JSON)
    line.pass_time(10)
    line.exchanges[0].answer(200, TEXT, b"one")
    line.pass_time(30)
    assert line.answers[0].headers["content-length"] == "3"
    assert not line.over


def test_only_the_exchange_whose_turn_it_is_beats() -> None:
    line = Line(LIMITS).feed(post(b"1") + post(b"2"))
    line.exchanges[1].start_heartbeat(JSON)
    line.pass_time(100)
    assert line.transport.sent == b""
    line.exchanges[0].answer(200, TEXT, b"one")
    line.pass_time(0.5)
    assert bytes(line.transport.sent).endswith(b"chunked\r\n\r\n1\r\n \r\n")
    line.exchanges[1].answer(200, TEXT, b"two")
    assert [answer.body for answer in line.answers] == [b"one", b" two"]


def test_a_last_heartbeat_says_that_the_connection_closes() -> None:
    line = Line(LIMITS).feed(post(b"1", b"/", b"Connection: close"))
    line.exchanges[0].start_heartbeat(JSON)
    line.pass_time(20)
    line.exchanges[0].answer(200, TEXT, b"")
    assert line.answers[0].headers["connection"] == "close"
    assert line.answers[0].body == b" "
    assert line.transport.eof


def test_who_does_not_read_gets_no_heartbeat() -> None:
    line = Line(LIMITS).feed(post(b"1") + post(b"2"))
    line.exchanges[1].start_heartbeat(JSON)
    line.transport.room = 0
    line.exchanges[0].answer(200, TEXT, b"one")
    for _ in range(4):
        line.pass_time(9)
        line.transport.read_by_caller(1)
    writes = line.transport.writes
    line.transport.read_by_caller()
    line.pass_time(0)
    assert line.transport.writes == writes + 1


@pytest.mark.parametrize(
    "request_",
    [b"POST / HTTP/1.0\r\nContent-Length: 0\r\n\r\n", b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"],
    ids=["HTTP/1.0", "HEAD"],
)
def test_some_get_no_heartbeat(request_: bytes) -> None:
    line = Line(LIMITS).feed(request_)
    line.exchanges[0].start_heartbeat(JSON)
    line.pass_time(100)
    assert line.transport.sent == b""


def test_there_is_no_heartbeat_unless_it_is_configured_or_after_the_end() -> None:
    line = Line(ListenerLimits()).feed(post())
    line.exchanges[0].start_heartbeat(JSON)
    line.pass_time(200)
    assert line.transport.sent == b""
    line = Line(LIMITS).feed(post() + post())
    line.exchanges[0].answer(200, TEXT, b"")
    line.exchanges[0].start_heartbeat(JSON)
    line.lose()
    line.exchanges[1].start_heartbeat(JSON)
    line.pass_time(200)
    assert len(line.answers) == 1


def test_100_comes_after_a_heartbeat_has_ended() -> None:
    line = Line(LIMITS).feed(post(b"1") + b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
    line.exchanges[0].start_heartbeat(JSON)
    line.pass_time(20)
    assert CONTINUE not in line.transport.sent
    line.exchanges[0].answer(200, TEXT, b"")
    assert bytes(line.transport.sent).endswith(b"0\r\n\r\n" + CONTINUE)
