"""Who is at which connection of a broker: whose key it came with, and which gateway.

A call_id begins with half of its gateway's life, and workers see call_ids. So the half must not be enough to be taken for that gateway:
who has come with the whole of a life keeps it, and so does its user. And where nobody has come with it yet, or it is gone: a life can
prove that its first half is its own, and then whoever made up the rest gives way.
"""

from collections.abc import Iterator, Mapping
from hashlib import sha256

import msgspec

from homing.core.machine import Life, Peer
from homing.core.messages import GATEWAY_BYTES
from homing.core.permits import ANYTHING, NOTHING, Permit
from homing.core.queues import Copy, service_of


def gateway_life(secret: bytes) -> Life:
    """A life whose first half, which workers see, proves the other, which only brokers are told: it is made from that."""
    return sha256(secret).digest()[:GATEWAY_BYTES] + secret


def proves(life: Life) -> bool:
    """Whether it was made so. Nobody can find another life that proves the same half."""
    return gateway_life(life[GATEWAY_BYTES:]) == life


class Known(msgspec.Struct):
    """One life of a gateway: where it is, and whose it is."""

    life: Life
    peer: Peer
    user: str
    proven: bool


class Roster:
    """Users by connection, and gateways by the head of their lives. A gateway may have several connections; it is answered on one."""

    __slots__ = ("_permits", "_users", "at", "gateways")

    def __init__(self, permits: Mapping[str, Permit] | None) -> None:
        self._permits = permits
        self._users: dict[Peer, str] = {}  # "" is left out
        self.gateways: dict[bytes, Known] = {}
        self.at: dict[Peer, bytes] = {}  # the head of the gateway that speaks here

    def found(self, peer: Peer, user: str) -> None:
        """A connection is there, and this is whose key it came with."""
        if user:
            self._users[peer] = user
        else:
            self._users.pop(peer, None)

    def lost(self, peer: Peer) -> bytes | None:
        """A connection is gone. The head of a gateway that is at no other, if there was one here."""
        self._users.pop(peer, None)
        return self.leave(peer)

    def user(self, peer: Peer) -> str:
        """Whose key a connection came with, "" for none."""
        return self._users.get(peer, "")

    def permit(self, peer: Peer) -> Permit:
        """What whoever is at this connection may do."""
        if self._permits is None:
            return ANYTHING
        return self._permits.get(self.user(peer), NOTHING)

    # Gateways

    def may_enter(self, peer: Peer, life: Life) -> bool:
        """Whether a gateway may say that this is its life."""
        known = self.gateways.get(life[:GATEWAY_BYTES])
        if known is None or known.life == life:
            return known is None or known.user == self.user(peer)
        return proves(life)

    def enter(self, peer: Peer, life: Life) -> bytes | None:
        """A gateway is at this connection. The head of the one that was there and is at no other, if there was one."""
        head = life[:GATEWAY_BYTES]
        left = self.leave(peer) if self.at.get(peer) != head else None
        known = self.gateways.get(head)
        if known is not None and known.life != life:
            self.at = {one: at for one, at in self.at.items() if at != head}  # whoever made it up is no gateway any more
        self.at[peer] = head
        self.gateways[head] = Known(life, peer, self.user(peer), proves(life))
        return left

    def leave(self, peer: Peer) -> bytes | None:
        """The gateway is no longer at this connection. Its head, if it is at no other."""
        head = self.at.pop(peer, None)
        if head is None:
            return None
        known = self.gateways[head]
        if known.peer == peer:
            other = next((one for one, at in self.at.items() if at == head), None)
            if other is None:
                return head
            known.peer = other
        return None

    def forget(self, head: bytes) -> None:
        """It will not come back: whoever comes with that head next is another."""
        del self.gateways[head]

    def life_of(self, call_id: bytes) -> Life:
        """Of the gateway that is there, or was."""
        return self.gateways[call_id[:GATEWAY_BYTES]].life

    def owns(self, call_id: bytes, copy: Copy | None) -> bool:
        """Whether the gateway that is there is the one whose call this is, and has not taken its place.

        It proves that the id is its own, or that very life submitted the call, or may call everything where the call is not known.
        """
        if self._permits is None:
            return True
        known = self.gateways[call_id[:GATEWAY_BYTES]]
        return known.proven or (known.life == copy.submitter if copy is not None else self.permit(known.peer).calls(""))

    def may_claim(self, peer: Peer, call_id: bytes, copy: Copy | None) -> bool:
        """Whether a worker may: its key may serve the call, and the gateway that would be asked has itself submitted this copy.

        Else that could grant its own call, and the worker would do what somebody else has said under the same id.
        """
        known = self.gateways.get(call_id[:GATEWAY_BYTES])
        submitted = copy is None or known is None or copy.submitter == known.life
        return submitted and self.permit(peer).serves(service_of(copy))

    def gateway_of(self, call_id: bytes) -> Peer | None:
        """Where to answer for a call. It may have left."""
        known = self.gateways.get(call_id[:GATEWAY_BYTES])
        return known.peer if known is not None else None

    def present(self) -> Iterator[Peer]:
        """Where each gateway is that is here."""
        return (known.peer for known in self.gateways.values() if known.peer in self.at)
