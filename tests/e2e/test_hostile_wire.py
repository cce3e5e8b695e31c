"""Whatever a peer says to a broker, it is counted, told once a minute, answered where there is an answer, and felt by nobody else."""

import json
import os
import random
import re
import resource
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec
import pytest

from homing.core import codec
from homing.core.messages import (
    Cancel,
    Claim,
    Deny,
    Disconnect,
    Final,
    Grant,
    Heartbeat,
    Hello,
    LostSeen,
    MethodOffer,
    Ready,
    Reject,
    Release,
    Request,
    Settled,
    Workers,
)
from homing.engines.zmq_curve import new_keys
from homing.errors import Outcome
from tests.e2e.hostile import Raw, counted, held, rss_bytes
from tests.e2e.quirks import Line, Neighbour, on_a_thread
from tests.serving import Reply
from tests.test_three_processes import HOUSE, Gated
from tests.trio import Callers, Role, Trio, until

FRAME_BYTES_MAX = 1024 * 1024
HELD_BYTES_MAX = 8 * 1024 * 1024
RSS_GROWTH_MAX = 320 * 1024 * 1024  # ten thousand connections take libzmq 20 KiB each, and malloc keeps what it had
MORE = """
[methods."large.it"]
provider = "acme"
effect = "safe"
request = "POST /large"
[methods."odd.it"]
service = "odd"
[methods."odd.safe"]
service = "odd"
effect = "safe"
"""
PEERS = """
[peers.front]
public_key = "{front}"
call = ["*"]
[peers.back]
public_key = "{back}"
serve = ["acme"]
[peers.mean]
public_key = "{mean}"
serve = ["odd"]
call = ["odd"]
"""


class Provider(Gated):
    """One that also answers with more than a frame holds."""

    def __init__(self) -> None:
        super().__init__()
        self.quirks["/large"] = self._large

    async def _large(self, line: Line) -> bool:
        await line.say(line.response(b'"%b"' % (b"x" * (FRAME_BYTES_MAX + 1))))
        return True

    def call_ids(self) -> list[bytes]:
        """Of the calls that it was asked for with an id."""
        found = (re.search(rb"(?i)\r\nx-call: (\w+)", request) for request in list(self.requests))
        return [bytes.fromhex(each[1].decode()) for each in found if each]


class House:
    """The three processes. Somebody calls all the while."""

    def __init__(self, trio: Trio, provider: Provider, keys: dict[str, tuple[str, str]]) -> None:
        self.trio = trio
        self.provider = provider
        self.keys = keys
        self.broker: Role = trio.broker("--admin", "127.0.0.1:0")
        self.admin_port = self.broker.ports()[-1]
        self.worker = trio.worker()
        self.gateway = trio.gateway()
        self.before = counted(trio, self.admin_port)
        self.rss_bytes = rss_bytes(self.broker)
        self.lines = 0

    def raw(self, *, identity: bytes = b"", received_max: int = 1000) -> Raw:
        """Somebody who keeps to nothing."""
        keys = (*self.keys["mean"], self.keys["broker"][0]) if self.keys else None
        return Raw(self.trio.endpoint, keys, identity=identity, received_max=received_max)

    def counts(self, why: str) -> float:
        """How often this has happened since the test began."""
        return counted(self.trio, self.admin_port).get(why, 0.0) - self.before.get(why, 0.0)

    def count(self, why: str, times: float = 1) -> None:
        """Wait until it has been counted so often."""
        until(lambda: self.counts(why) >= times, f"{why} was not counted {times} times")

    @contextmanager
    def held_call(self) -> Iterator[bytes]:
        """A `once` call that runs; it must end well. Its id."""
        known = set(self.provider.call_ids())
        number = random.randrange(10**6)
        self.provider.gate.clear()
        callers = Callers(self.trio, "gated.once", range(number, number + 1))
        until(lambda: set(self.provider.call_ids()) - known)
        (call_id,) = set(self.provider.call_ids()) - known
        yield call_id
        assert not callers.replies, callers.replies[number].json
        self.provider.gate.set()
        callers.join()
        assert callers.replies[number].result == {"n": number}
        assert self.provider.seen[number] == 1


@contextmanager
def opened(folder: Path, *, curve: bool) -> Iterator[House]:
    with on_a_thread(Provider()) as provider:
        text = HOUSE.replace("{url}", f"http://127.0.0.1:{provider.port}") + MORE
        text = text.replace('request = "POST /gated"', 'request = "POST /gated"\nheaders = { X-Call = "=call.id" }')
        text = text.replace(
            "[broker]\n",
            f'[broker]\nframe_bytes_max = "{FRAME_BYTES_MAX // 1024}KiB"\nheld_bytes_max = "{HELD_BYTES_MAX // 2**20}MiB"\n',
        )
        keys = {name: new_keys() for name in ("broker", "front", "back", "mean")} if curve else {}
        if curve:
            for name, (public, secret) in keys.items():
                path = folder / name
                path.write_text(f'public_key = "{public}"\nsecret_key = "{secret}"\n')
                path.chmod(0o600)
            dial = f'curve = {{ key = "%s", broker = "{keys["broker"][0]}" }}\n'
            dial = 'curve = { key = "{name}", broker = "{broker key}" }\n'.replace("{broker key}", keys["broker"][0])
            text = text.replace("[gateway]\n", "[gateway]\n" + dial.replace("{name}", "front"))
            text = text.replace("[worker]\n", "[worker]\n" + dial.replace("{name}", "back"))
            text = text.replace("[broker]\n", '[broker]\ncurve = { key = "broker" }\n')
            text += PEERS
            for name, (public, _) in keys.items():
                text = text.replace(f"{{{name}}}", public) if name != "broker" else text
        with Trio(folder, text) as trio:
            house = House(trio, provider, keys)
            yield house
            for role in (house.broker, house.worker, house.gateway):
                assert role.process.poll() is None
                assert not role.faults()


@pytest.fixture(scope="module")
def _open_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with opened(tmp_path_factory.mktemp("house"), curve=False) as house:
        yield house


@pytest.fixture
def house(_open_house: House) -> Iterator[House]:
    """The house, with somebody who calls all the while and must not notice anything."""
    until(lambda: not held(_open_house.trio, _open_house.admin_port), "a call of an earlier test is held")
    _open_house.before = counted(_open_house.trio, _open_house.admin_port)
    _open_house.lines = len(_open_house.broker.log)
    with Neighbour(_open_house.trio.port, "quick.safe") as neighbour:
        yield _open_house
        calls = neighbour.calls
        until(lambda: neighbour.calls > calls or neighbour.wrong)
    neighbour.check()
    told = [line for line in _open_house.broker.log[_open_house.lines :] if line["event"] in ("dropped", "counted")]
    kinds = [line.get("kind") for line in told if line["event"] == "dropped"]
    assert len(kinds) == len(set(kinds)), "more than one line of a kind within its minute"
    assert rss_bytes(_open_house.broker) < _open_house.rss_bytes + RSS_GROWTH_MAX


# Frames


def body_of(message: object) -> bytes:
    return msgspec.msgpack.encode(message)


JUNK: dict[str, tuple[str, Callable[[], list[bytes]]]] = {
    "one empty frame": ("foreign", lambda: [b""]),
    "random bytes": ("foreign", lambda: [os.urandom(random.randrange(1, 300)) for _ in range(random.randrange(1, 9))]),
    "another version": ("foreign", lambda: [b"HOM2", *codec.encode([Disconnect()])[1:]]),
    "a header without a body": ("frames", lambda: [b"HOM1", codec.encode([Disconnect()])[1]]),
    "a body too many": ("frames", lambda: [*codec.encode([Disconnect()]), b""]),
    "five thousand frames": ("frames", lambda: [b"HOM1", *[b""] * 5000]),
    "a header that is none": ("header", lambda: [b"HOM1", b"\xc1" + os.urandom(8), b""]),
    "an empty header": ("header", lambda: [b"HOM1", b"", b""]),
    "arrays in arrays": ("header", lambda: [b"HOM1", b"\x93\x03\xc4\x10" + bytes(16) + b"\x91" * 100_000, b""]),
    "an unknown type": ("type", lambda: [b"HOM1", body_of([99]), b""]),
    "a type below nothing": ("type", lambda: [b"HOM1", body_of([-1, b"x" * 16]), b""]),
    "a call id too short": ("field", lambda: [b"HOM1", body_of([3, b"x" * 15]), b""]),
    "a life too long": ("field", lambda: [b"HOM1", body_of([1, b"x" * 17]), b""]),
    "a claim below nothing": ("field", lambda: [b"HOM1", body_of([5, b"x" * 16, b"y" * 16, -1]), b""]),
    "a body where none is": ("body", lambda: [*codec.encode([Disconnect()])[:2], b"{}"]),
}


@pytest.mark.parametrize("what", JUNK)
def test_junk_is_counted_each_time_and_told_once(what: str, house: House) -> None:
    kind, frames = JUNK[what]
    times = 200 if "thousand" in what or "arrays" in what else 3000
    with house.raw() as raw:
        for _ in range(times):
            raw.send(*frames())
        house.count(kind, times if "random" not in what else 0.9 * times)
        raw.gateway()  # who has said junk may still say something sensible


def test_one_who_is_there_and_says_nothing_is_no_trouble(house: House) -> None:
    """The grammar has a message without any pair."""
    with house.raw() as raw:
        for _ in range(100):
            raw.send(b"HOM1")
        raw.gateway()
        raw.send(b"HOM1")
        raw.hears_no(Reject)


def test_a_frame_too_large_costs_its_own_connection(house: House) -> None:
    """The connection ends: what is behind such a frame cannot be found."""
    with house.raw() as raw:
        raw.gateway()
        for _ in range(5):
            raw.send(b"HOM1", b"x" * (8 * FRAME_BYTES_MAX), b"")
            raw.gateway()
        raw.hears_no(Reject)


def test_one_of_many_who_says_junk_costs_the_others_nothing_of_what_came_beside_it(house: House) -> None:
    """A broker carries outcomes unread: junk in one reaches the gateway beside what others said, and only that is dropped."""
    with house.raw() as worker:
        worker.worker(odd=5)
        callers = Callers(house.trio, "odd.safe", range(1))
        request = worker.hear(Request)
        worker.say(Claim(request.call_id, worker.life, 1))
        worker.hear(Grant)
        junk: tuple[object, ...] = ([], {"reason": 7}, {"reason": "no such thing", "executed": "yes"}, "junk", None)
        for outcome in junk:
            worker.send(b"HOM1", body_of([9, request.call_id, worker.life, 1, outcome]), b"{}")
        worker.say(Final(request.call_id, worker.life, 1, Outcome(reason="ok", executed="yes", result=b'"well"')))
        callers.join()
        assert callers.replies[0].result == "well"
        worker.say(Disconnect())


# Who says what is not his


def strangers_words(call_id: bytes, life: bytes) -> list[msgspec.Struct]:
    return [
        Cancel(call_id),
        Grant(call_id, life, 1, 9000),
        Deny(call_id, life, 1),
        Settled(life, (call_id,)),
        LostSeen(call_id, life, 1),
    ]


def test_a_stranger_decides_nothing_for_a_gateway(house: House) -> None:
    with house.held_call() as call_id, house.raw() as raw:
        life = raw.gateway().hear(Workers).lives[0]
        for claim in range(1, 30):
            for message in strangers_words(call_id, life):
                raw.say(msgspec.structs.replace(message, claim=claim) if hasattr(message, "claim") else message)  # type: ignore[arg-type]
        house.count("not_owner", 29 * 5)


def test_a_gateway_cannot_come_with_the_head_of_another(house: House) -> None:
    with house.held_call() as call_id, house.raw() as raw:
        for _ in range(50):
            raw.say(Hello(call_id[:8] + os.urandom(8)))
            raw.hear(Disconnect)
        raw.say(*strangers_words(call_id, raw.life))  # type: ignore[arg-type]
        raw.say(Request(call_id[:8] + os.urandom(8), "acme", "gated.once", 9000, "once", "", "", 0, "no", "", b'{"n":-5}'))
        raw.hear(Disconnect)
        house.count("life_taken", 50)
    assert house.provider.seen[-5] == 0


def test_a_stranger_ends_no_call_of_a_worker(house: House) -> None:
    """With the life of that worker, and with one of its own."""
    lie = Outcome(reason="ok", executed="yes", result=b'"a lie"')
    with house.held_call() as call_id, house.raw() as raw:
        life = raw.gateway().hear(Workers).lives[0]
        for claim in range(1, 30):
            raw.say(Claim(call_id, life, claim), Final(call_id, life, claim, lie), Release(call_id, life, claim))
        raw.say(Reject(call_id, "refused", "overloaded"), Reject(call_id, "drop"))
        raw.hear(Disconnect)
        raw.worker(acme=0)
        for claim in range(30):
            raw.say(Claim(call_id, raw.life, claim), Final(call_id, raw.life, claim, lie), Release(call_id, raw.life, claim))
            raw.hear(Deny)
            raw.hear(Settled)
        raw.say(Reject(call_id, "refused", "overloaded"), Reject(call_id, "drop"), Reject(call_id, "again"))
        beat = Heartbeat(life=raw.life, peer_life=b"", sent=0, received=0, in_flight=(call_id,))
        raw.say(beat)
        raw.say(Disconnect())  # and lost with it is what it said it had
        raw.worker(acme=0)
        raw.say(Disconnect())


def test_forged_ids_and_claims_on_nothing_are_denied_or_dropped(house: House) -> None:
    with house.raw() as raw:
        raw.worker(odd=0)
        head = bytes.fromhex(house.trio.call("quick.safe", {"n": 3}).headers["homing-call-id"])[:8]
        for _ in range(200):
            forged = head + os.urandom(8)
            raw.say(Claim(forged, raw.life, 1), Release(forged, raw.life, 1), Claim(os.urandom(16), raw.life, 2))
            deny = raw.hear(Deny)
            assert deny.call_id == forged
        raw.hears_no(Grant)
        raw.say(Disconnect())


def test_a_heartbeat_with_a_hundred_thousand_ids_is_borne(house: House) -> None:
    head = bytes.fromhex(house.trio.call("quick.safe", {"n": 4}).headers["homing-call-id"])[:8]
    with house.raw() as raw:
        raw.worker(odd=1)
        ids = tuple(head + os.urandom(8) for _ in range(60_000))
        for _ in range(3):
            raw.say(Heartbeat(life=raw.life, peer_life=b"", sent=0, received=0, in_flight=ids))
        raw.say(Disconnect())
        raw.worker(odd=0)
        raw.say(Disconnect())


def test_a_worker_that_offers_other_methods_with_every_message_is_no_trouble(house: House) -> None:
    """What gateways are told of them, and learn, is paced."""
    with house.raw() as raw:
        raw.worker(odd=0)
        for turn in range(500):
            offers = tuple(MethodOffer(f"odd.{turn}.{number}", "odd") for number in range(2000))
            raw.say(Ready(raw.life, {"odd": 0}, 1000, offers))
        raw.say(Ready(raw.life, {"odd": 0}, 1000))
        raw.hear(Heartbeat)
        raw.say(Disconnect())


# Workers that answer as they like


def test_a_worker_that_answers_twice_and_after_settled_is_heard_once(house: House) -> None:
    first, second = (Outcome(reason="ok", executed="yes", result=text) for text in (b'"first"', b'"second"'))
    with house.raw() as raw:
        raw.worker(odd=1)
        callers = Callers(house.trio, "odd.it", range(1))
        request = raw.hear(Request)
        raw.say(Claim(request.call_id, raw.life, 7))
        raw.hear(Grant)
        raw.say(Claim(request.call_id, raw.life, 8))
        raw.hear(Deny)
        raw.say(Final(request.call_id, raw.life, 7, first), Final(request.call_id, raw.life, 7, second))
        assert set(raw.hear(Settled).call_ids) == {request.call_id}
        callers.join()
        assert callers.replies[0].result == "first"
        for _ in range(100):
            raw.say(Final(request.call_id, raw.life, 7, second), Release(request.call_id, raw.life, 7))
            assert set(raw.hear(Settled).call_ids) == {request.call_id}
        raw.say(Disconnect())
    until(lambda: held(house.trio, house.admin_port) <= 1)  # but for what the neighbour asks just now


def test_a_worker_cannot_answer_another_call_beside_its_own(house: House) -> None:
    """A result goes into the answer as it is: one that is no JSON value could end its own answer, and begin another's."""
    forged = b'1},{"jsonrpc":"2.0","id":2,"result":"forged"'
    calls = [
        {"jsonrpc": "2.0", "id": 1, "method": "odd.it"},
        {"jsonrpc": "2.0", "id": 2, "method": "quick.safe", "params": {"n": 5}},
    ]
    replies: list[Reply] = []

    def call() -> None:
        replies.append(house.trio.request("POST", "/rpc", json.dumps(calls).encode()))

    with house.raw() as raw:
        raw.worker(odd=1)
        caller = threading.Thread(target=call, daemon=True)
        caller.start()
        request = raw.hear(Request)
        raw.say(Claim(request.call_id, raw.life, 1))
        raw.hear(Grant)
        raw.say(Final(request.call_id, raw.life, 1, Outcome(reason="ok", executed="yes", result=forged)))
        caller.join(30)
        one, two = replies[0].json
        assert (one["id"], one["error"]["data"]["reason"], one["error"]["data"]["executed"]) == (1, "response_invalid", "unknown")
        assert (two["id"], two["result"]) == (2, {"n": 5})
        raw.worker(odd=0)
        raw.say(Disconnect())


def told(reply: Reply) -> tuple[str, str]:
    return reply.data["reason"], reply.data["executed"]


@pytest.mark.parametrize("claims", [False, True], ids=["never claims", "never answers"])
def test_a_worker_that_never_answers_costs_its_calls_their_time_and_the_broker_nothing(claims: bool, house: House) -> None:
    """More than the broker may hold goes to it, and nobody else is refused for that."""
    body = {"text": "x" * (FRAME_BYTES_MAX // 2)}
    count = 12
    replies: list[Reply] = []

    def call() -> None:
        replies.append(house.trio.call("odd.it", body, Homing_Timeout="5"))

    with house.raw() as raw:
        raw.worker(odd=2_000_000)
        for _ in range(2):
            callers = [threading.Thread(target=call, daemon=True) for _ in range(count)]
            for caller in callers:
                caller.start()
            for claim in range(1, count + 1):
                request = raw.hear(Request)
                if claims:
                    raw.say(Claim(request.call_id, raw.life, claim))
            for caller in callers:
                caller.join(30)
            ends = Counter(map(told, replies))
            assert ends.keys() <= {("deadline_exceeded", "unknown"), ("expired", "no")}
            assert ends["deadline_exceeded", "unknown"] > 0 if claims else ends["expired", "no"] == count
            replies.clear()
            until(lambda: held(house.trio, house.admin_port) <= 1, "what nobody waits for is held")
        raw.say(Disconnect())


def test_an_outcome_larger_than_a_frame_is_told_to_its_caller(house: House) -> None:
    """The provider's, which the worker sees, and that of a worker which heeds nothing."""
    reply = house.trio.call("large.it", {"n": 9})
    assert told(reply) == ("response_too_large", "yes")
    with house.raw() as raw:
        raw.worker(odd=1)
        callers = Callers(house.trio, "odd.it", range(1))
        request = raw.hear(Request)
        raw.say(Claim(request.call_id, raw.life, 1))
        raw.hear(Grant)
        huge = Outcome(reason="ok", executed="yes", result=b'"%b"' % (b"x" * 4 * FRAME_BYTES_MAX))
        raw.say(Final(request.call_id, raw.life, 1, huge))  # libzmq cuts it off for that, and it comes no more
        callers.join()
        assert told(callers.replies[0]) == ("worker_lost", "unknown")
        raw.worker(odd=0)
        raw.say(Disconnect())


def test_two_workers_with_one_routing_id_and_one_life_do_no_harm_to_others(house: House) -> None:
    with house.raw(identity=b"the same") as one, house.raw() as three:
        three.life = one.life
        one.worker(odd=1)
        with house.raw(identity=b"the same") as two:  # only now: the first who comes with it keeps it
            two.say(Ready(one.life, {"odd": 1}, 1000))
            two.hears_no(Heartbeat)
        three.worker(odd=1)  # with a routing id of its own, and the life of the first
        one.say(Claim(os.urandom(16), one.life, 1))
        one.hear(Disconnect)
        for _ in range(50):
            one.worker(odd=1)
            three.worker(odd=1)
        while one.hear(Heartbeat).received < one.said:
            pass  # a beat that came of itself is no answer to READY, and the last of the two READYs is what counts
        three.worker(odd=1)
        callers = Callers(house.trio, "odd.it", range(1))
        request = three.hear(Request)
        three.say(Claim(request.call_id, one.life, 1))
        three.hear(Grant)
        three.say(Final(request.call_id, one.life, 1, Outcome(reason="ok", executed="yes", result=b"3")))
        callers.join()
        assert callers.replies[0].result == 3
        three.say(Disconnect())


# Many, and much


def test_a_peer_that_sends_and_never_reads_fills_no_memory(house: House) -> None:
    with house.raw(received_max=1) as raw:
        raw.say(Hello(raw.life))
        frames = codec.encode([Hello(raw.life)] * 200)
        for _ in range(1500):
            raw.send(*frames)
    house.trio.call("quick.safe", {"n": 5})


def test_calls_without_a_body_are_bounded_too(house: House) -> None:
    """A gateway that heeds nothing: names and keys as long as they may be, for a service nobody will ever take a call of."""
    with ExitStack() as stack:
        worker = stack.enter_context(house.raw())
        worker.worker(**{f"idle{number}": 0 for number in range(10)})
        gateway = stack.enter_context(house.raw())
        life = gateway.gateway().life
        before = rss_bytes(house.broker)
        text, refused = "k" * 65_000, 0
        for number in range(200):
            call_id = life[:8] + number.to_bytes(8, "big")
            gateway.say(Request(call_id, f"idle{number % 10}", "it", 60_000, "once", "", text, 0, "no", text, b""))
        while gateway.hear(Reject).call_id[8:] != (199).to_bytes(8, "big"):
            refused += 1
        assert refused > 100
        assert rss_bytes(house.broker) < before + 40 * 1024 * 1024
        worker.say(Disconnect())


GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)
READY = b"\x04\x29\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER\x08Identity\x00\x00\x00\x00"


def test_ten_thousand_connections_that_say_nothing_are_nobody(house: House) -> None:
    """Half say not even who they are, half are well-mannered and then silent."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(10_000, hard - 2000)
    port = int(house.trio.endpoint.rpartition(":")[2])
    with ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for number in range(count):
            connection = socket.create_connection(("127.0.0.1", port), timeout=20)
            stack.callback(connection.close)
            if number % 2:
                connection.sendall(GREETING + READY)
        with house.raw() as raw:
            raw.gateway()
        assert house.trio.call("quick.safe", {"n": 6}).result == {"n": 6}


# Under keys


def test_a_key_serves_and_calls_what_it_may_and_nothing_else(tmp_path: Path) -> None:
    with opened(tmp_path, curve=True) as house, Neighbour(house.trio.port, "quick.safe") as neighbour:
        with house.held_call() as call_id, house.raw() as raw:
            raw.worker(acme=100, odd=1)
            house.count("serve_forbidden")
            raw.say(Claim(call_id, raw.life, 1))
            house.count("claim_forbidden")
            raw.say(Hello(raw.life[::-1]))
            for _ in range(20):
                forbidden = Request(
                    raw.life[::-1][:8] + os.urandom(8), "acme", "gated.once", 9000, "once", "", "", 0, "no", "", b'{"n":-7}'
                )
                raw.say(forbidden)
                assert raw.hear(Reject).reason == "forbidden"
            raw.say(*strangers_words(call_id, raw.life))  # type: ignore[arg-type]
            house.count("not_owner", 5)
            assert all(house.trio.call("quick.safe", {"n": number}).result for number in range(20)), "one went to it"
            raw.hears_no(Request)
            callers = Callers(house.trio, "odd.it", range(1))
            request = raw.hear(Request)
            raw.say(Claim(request.call_id, raw.life, 1))
            raw.hear(Grant)
            raw.say(Final(request.call_id, raw.life, 1, Outcome(reason="ok", executed="yes", result=b"1")))
            callers.join()
            assert callers.replies[0].result == 1
        assert house.provider.seen[-7] == 0
    neighbour.check()
