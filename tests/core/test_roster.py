"""Who is at which connection: users, permits, and gateways by the head of their lives."""

from homing.core.permits import ANYTHING, NOTHING, Permit
from homing.core.roster import Roster
from tests.core.people import GATEWAY, OTHER_GATEWAY, A, G, call_id

G2 = b"gateway 2"
HEAD = GATEWAY[:8]


def test_without_permits_anybody_may_do_anything() -> None:
    roster = Roster(None)
    roster.found(G, "webshop")
    assert roster.permit(G) is roster.permit(G2) is ANYTHING


def test_with_permits_each_user_may_do_what_is_permitted_and_others_nothing() -> None:
    permit, local = Permit(call=("acme",)), Permit(serve=("*",))
    roster = Roster({"webshop": permit, "": local})
    assert roster.permit(G) is local
    roster.found(G, "webshop")
    assert (roster.user(G), roster.permit(G)) == ("webshop", permit)
    roster.found(G, "stranger")
    assert roster.permit(G) is NOTHING
    roster.found(G, "")
    assert roster.permit(G) is local
    roster.found(G, "webshop")
    assert roster.lost(G) is None
    assert roster.user(G) == ""


def test_a_gateway_enters_and_leaves() -> None:
    roster = Roster(None)
    assert roster.gateway_of(A) is None
    assert roster.enter(G, GATEWAY) is None
    assert roster.gateway_of(A) == G
    assert list(roster.present()) == [G]
    assert roster.lost(G) == HEAD
    assert (roster.gateway_of(A), list(roster.present())) == (G, [])
    roster.forget(HEAD)
    assert roster.gateway_of(A) is None
    assert roster.lost(G) is None


def test_a_gateway_has_several_connections_and_is_answered_on_one() -> None:
    roster = Roster(None)
    roster.enter(G, GATEWAY)
    assert roster.enter(G2, GATEWAY) is None
    assert roster.gateway_of(A) == G2
    assert roster.lost(G2) is None
    assert roster.gateway_of(A) == G
    roster.enter(G2, GATEWAY)
    assert roster.lost(G) is None  # it is answered on the other
    assert roster.gateway_of(A) == G2


def test_a_connection_has_one_gateway_and_the_last_counts() -> None:
    roster = Roster(None)
    roster.enter(G, GATEWAY)
    assert roster.enter(G, OTHER_GATEWAY) == HEAD
    roster.forget(HEAD)
    assert roster.gateway_of(call_id(1, OTHER_GATEWAY)) == G
    assert roster.at == {G: OTHER_GATEWAY[:8]}


def test_a_life_is_its_users_as_long_as_it_is_known() -> None:
    roster = Roster(None)
    roster.found(G, "webshop")
    roster.enter(G, GATEWAY)
    assert roster.may_enter(G, GATEWAY)
    assert not roster.may_enter(G, HEAD + b"made up!")
    assert not roster.may_enter(G2, GATEWAY)
    roster.found(G2, "webshop")
    assert roster.may_enter(G2, GATEWAY)
    roster.lost(G)
    assert not roster.may_enter(b"thief", GATEWAY)
    roster.forget(HEAD)
    assert roster.may_enter(b"thief", GATEWAY)
