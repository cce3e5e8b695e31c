"""Counting on a link that loses without telling.

A ZeroMQ DEALER took 900 sends while its broker restarted, and none arrived. So both sides count what they sent and what they got, and
say so in their heartbeats: a difference is a gap, and a life that is not the one known is a peer that has forgotten everything. HELLO
and READY introduce: each is answered with a heartbeat, so that both sides know early who the other is and how large a frame it reads.
"""

import msgspec

from homing.core.machine import Action, Peer, Send
from homing.core.messages import Heartbeat, Hello, Message, Ready, Request

INTRODUCE_EVERY_S = 0.2
FRAME_BYTES_MAX = 16 * 1024 * 1024  # where nobody says otherwise
UNLIMITED = 1 << 62
ROOM_BYTES = 60 * 1024  # that any reader has for a header beyond what it announces
UTF8_BYTES_MAX = 4  # of a character


def frame_bytes(request: Request) -> int:
    """How large a frame must be read by whom it is sent to: the params', or that of a header with a very long key or trace."""
    body, key, trace = request.body, request.key, request.trace
    if UTF8_BYTES_MAX * (len(key) + len(trace)) <= ROOM_BYTES:
        return len(body)
    beside = len(key.encode("utf-8", "replace")) + len(trace.encode("utf-8", "replace"))
    return max(len(body), beside - ROOM_BYTES)


class Heard(msgspec.Struct, frozen=True):
    """What a heartbeat told: that the peer is a new one (or takes us for one), that something was lost on the way, and whether it asks
    for it again: what it has only found lost itself it will ask for.
    """

    stranger: bool
    gap: bool
    asks: bool = False


class Link:
    """One peer as this side sees it. `frame_bytes_max` is the largest frame it has announced to read."""

    __slots__ = ("frame_bytes_max", "gap", "life", "received", "sent")

    def __init__(self) -> None:
        self.life = b""
        self.frame_bytes_max = UNLIMITED
        self.sent = 0
        self.received = 0
        self.gap = False


class Links:
    """Every peer of one machine, and when the next round of heartbeats is due. `interval_s` 0: the engine never loses, count nothing.

    `frame_bytes_max` is what is announced to others. Of peers that were never opened, or closed, nothing is counted. Who `insists` tells
    of a gap with every heartbeat until the peer has introduced itself anew, and others once: what is lost of what a broker was told stays
    lost, and what it said itself is repeated anyway.
    """

    __slots__ = ("_beat_at", "_insists", "_introduced", "_lag_s", "_owed", "frame_bytes_max", "interval_s", "life", "peers")

    def __init__(self, life: bytes, interval_s: float, frame_bytes_max: int = FRAME_BYTES_MAX, *, insists: bool = False) -> None:
        self.life = life
        self._insists = insists
        self.interval_s = interval_s
        self.frame_bytes_max = frame_bytes_max if interval_s else 0  # an engine that never loses reads anything
        self.peers: dict[Peer, Link] = {}
        self._beat_at: float | None = None
        self._lag_s = 0.0  # how late the latest round of heartbeats was
        self._introduced: dict[Peer, float] = {}  # who asked for it, and from when on it may be done again
        self._owed: dict[Peer, float] = {}

    def open(self, peer: Peer, now: float) -> Link:
        """The peer's link, made if there is none."""
        link = self.peers.get(peer)
        if link is None:
            link = self.peers[peer] = Link()
            if self.interval_s and self._beat_at is None:
                self._beat_at = now + self.interval_s
        return link

    def close(self, peer: Peer) -> None:
        """Forget the peer."""
        self.peers.pop(peer, None)
        self._introduced.pop(peer, None)
        self._owed.pop(peer, None)
        if not self.peers:
            self._beat_at = None

    def life_of(self, peer: Peer) -> bytes:
        """The peer's life as it is known here, b"" as long as it is not."""
        link = self.peers.get(peer)
        return link.life if link is not None else b""

    def reads(self, peer: Peer) -> int:
        """The largest frame to send it: the engine sends none that it would not read."""
        link = self.peers.get(peer)
        return min(link.frame_bytes_max, self.frame_bytes_max or UNLIMITED) if link is not None else UNLIMITED

    def count_received(self, peer: Peer, message: Message) -> None:
        """Every message but a heartbeat counts."""
        link = self.peers.get(peer)
        if link is not None and type(message) is not Heartbeat:
            link.received += 1

    def count_sent(self, actions: list[Action]) -> None:
        """Count what is about to leave, in its order; each heartbeat says what left before it in the same turn too."""
        find = self.peers.get
        for index, action in enumerate(actions):
            if type(action) is not Send:
                continue
            link = find(action.peer)
            if link is None:
                continue
            if type(action.message) is Heartbeat:
                actions[index] = Send(action.peer, msgspec.structs.replace(action.message, sent=link.sent))
            else:
                link.sent += 1

    def greeted(self, peer: Peer, greeting: Hello | Ready) -> None:
        """The peer says who it is. One that takes us for an earlier life learns better from the heartbeat it is answered with."""
        link = self.peers.get(peer)
        if link is not None:
            if link.life and link.life != greeting.life:
                link.received = 1  # this one: it has begun anew
            link.gap = False
            self._meets(link, greeting)

    def heard(self, peer: Peer, beat: Heartbeat) -> Heard:
        """Compare the peer's count with ours, and take its over: a gap is told once."""
        link = self.peers.get(peer)
        if link is None:
            return Heard(False, False)
        stranger = self._meets(link, beat)
        lost_here = link.received != beat.sent
        link.received = beat.sent
        link.gap = link.gap or lost_here
        return Heard(stranger, lost_here or beat.gap, beat.gap)

    def _meets(self, link: Link, said: Hello | Ready | Heartbeat) -> bool:
        """Take over who the peer is, and say whether it is a stranger. One that we did not know and that knows us is none."""
        before, link.life = link.life, said.life
        link.frame_bytes_max = said.frame_bytes_max or UNLIMITED
        if before and before != said.life:
            link.sent = 0
            return True
        return said.peer_life != self.life and (not before or said.peer_life != b"")

    def introduces(self, peer: Peer, now: float) -> bool:
        """Whether to introduce oneself, and say everything again, to a peer that asks for it.

        A broker that has just started asks once for every message it gets. To answer each with all one has would be a storm that
        grows with the square of the calls, so what is asked again soon is owed, and done once when the time has come.
        """
        if peer not in self.peers:
            return False
        again_at = self._introduced.get(peer)
        if again_at is not None and now < again_at:
            self._owed[peer] = again_at
            return False
        self._introduced[peer] = now + INTRODUCE_EVERY_S
        return True

    def introductions_due(self, now: float) -> list[Peer]:
        """To whom it is owed now."""
        due = [peer for peer, instant in self._owed.items() if instant <= now]
        for peer in due:
            del self._owed[peer]
            self._introduced[peer] = now + INTRODUCE_EVERY_S
        return due

    def beats_due(self, now: float) -> list[Peer]:
        """Whom to send a heartbeat now."""
        if self._beat_at is None or now < self._beat_at:
            return []
        self._lag_s = now - self._beat_at
        self._beat_at = now + self.interval_s
        return list(self.peers)

    def beat(self, peer: Peer, in_flight: tuple[bytes, ...] | None = None) -> Send:
        """The heartbeat for a peer."""
        link = self.peers[peer]
        gap, link.gap = link.gap, link.gap and self._insists
        return Send(
            peer,
            Heartbeat(
                life=self.life,
                peer_life=link.life,
                sent=link.sent,
                received=link.received,
                gap=gap,
                in_flight=in_flight,
                lag_ms=round(self._lag_s * 1000),
                frame_bytes_max=self.frame_bytes_max,
            ),
        )

    def next_deadline(self) -> float | None:
        """When the next round, or an introduction, is due."""
        if not self._owed:
            return self._beat_at
        owed = min(self._owed.values())
        return owed if self._beat_at is None else min(owed, self._beat_at)
