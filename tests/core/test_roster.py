"""Who is at which connection: users, permits, and gateways by the head of their lives."""

from homing.core.permits import ANYTHING, NOTHING, Permit
from homing.core.queues import Copy
from homing.core.roster import Roster, gateway_life, proves
from tests.core.people import GATEWAY, OTHER_GATEWAY, A, G, call_id, request

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


def test_a_life_proves_its_first_half_by_the_other() -> None:
    life = gateway_life(b"a secret")
    assert life == bytes.fromhex("984ca5162200734c") + b"a secret"
    assert proves(life)
    assert not proves(life[:8] + b"b secret")
    assert not proves(GATEWAY)


def test_who_made_up_the_rest_of_a_life_gives_way_to_who_proves_it() -> None:
    roster = Roster(None)
    life = gateway_life(b"a secret")
    made_up = life[:8] + b"made up!"
    assert roster.may_enter(G2, made_up)
    roster.enter(G2, made_up)
    assert not roster.may_enter(G, life[:8] + b"made too")
    assert roster.may_enter(G, life)
    assert roster.enter(G, life) is None
    assert (roster.at, roster.gateway_of(life)) == ({G: life[:8]}, G)
    assert not roster.may_enter(G2, made_up)
    assert roster.lost(G2) is None


def test_a_call_is_its_submitters_or_of_who_proves_that_it_is() -> None:
    life = gateway_life(b"a secret")
    roster = Roster({"webshop": Permit(call=("acme",)), "any": ANYTHING})
    roster.found(G, "webshop")
    roster.enter(G, life)
    call = call_id(1, life)
    assert roster.owns(call, None)
    assert roster.owns(call, Copy(request(call), 10.0, submitter=OTHER_GATEWAY))
    roster.enter(G, GATEWAY)
    assert not roster.owns(A, None)
    assert roster.owns(A, Copy(request(A), 10.0, submitter=roster.life_of(A)))
    assert not roster.owns(A, Copy(request(A), 10.0, submitter=OTHER_GATEWAY))
    roster.found(G2, "any")
    roster.enter(G2, OTHER_GATEWAY)
    assert roster.owns(call_id(1, OTHER_GATEWAY), None)
    unguarded = Roster(None)
    unguarded.enter(G, GATEWAY)
    assert unguarded.owns(A, None)


def test_a_copy_is_claimed_of_the_gateway_that_submitted_it() -> None:
    roster = Roster({"acme-workers": Permit(serve=("acme",)), "": ANYTHING})
    roster.found(G2, "acme-workers")
    mine, made_up = (Copy(request(A), 10.0, submitter=life) for life in (GATEWAY, OTHER_GATEWAY))
    assert roster.may_claim(G2, A, made_up), "nobody would be asked"
    roster.enter(G, GATEWAY)
    assert roster.may_claim(G2, A, mine)
    assert not roster.may_claim(G2, A, made_up)
    assert not roster.may_claim(G2, A, None), "it may be of any service"
    assert roster.may_claim(G, A, None)
    assert not roster.may_claim(G2, A, Copy(request(A, service="mail"), 10.0, submitter=GATEWAY))
