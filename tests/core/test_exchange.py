"""The values between the mapping and the provider edge: plain, frozen, comparable."""

from typing import get_args

import pytest

from homing.core.exchange import ExchangeFailed, ExchangeResult, FailureReason, HttpRequest, HttpResponse
from homing.errors import ROWS

REQUEST = HttpRequest("POST", "/v2/charges?expand=card", (("Accept", "application/json"),), b"{}")
RESPONSE = HttpResponse(200, {"content-type": "application/json"}, b"{}")
FAILED = ExchangeFailed("connection_lost", "unknown", "the connection broke", status=200)


@pytest.mark.parametrize(("value", "field"), [(REQUEST, "target"), (RESPONSE, "body"), (FAILED, "executed")])
def test_nobody_on_the_way_changes_them(value: object, field: str) -> None:
    with pytest.raises(AttributeError):
        setattr(value, field, "")


def test_equal_requests_are_one_request() -> None:
    again = HttpRequest("POST", "/v2/charges?expand=card", (("Accept", "application/json"),), b"{}")
    assert again == REQUEST
    assert len({again, REQUEST}) == 1


def test_an_exchange_ends_with_a_response_or_without() -> None:
    assert set(get_args(ExchangeResult)) == {HttpResponse, ExchangeFailed}
    assert ExchangeFailed("cancelled", "no", "not a byte was written").status is None


def test_a_failure_is_a_reason_of_the_table_or_one_that_its_caller_names() -> None:
    assert set(get_args(FailureReason)) - set(ROWS) == {
        "timed_out"
    }  # by the deadline or by `timeout.attempt`: the edge cannot know
