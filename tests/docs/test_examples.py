"""The three providers of the how-to pages, each spoken to as its configuration says, and each caught lying to nobody."""

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from homing.edges import http_reply
from tests.docs.pages import ROOT
from tests.docs.providers import Bureau, ChatApi, PaymentsApi, refusal, said
from tests.serving import Answer, Serving

EXAMPLES = ROOT / "examples"
SECRET = "sk_test_1"
CHARGE = {"amount": 1200, "currency": "eur", "card": "tok_1", "order": "17"}


def text_of(name: str, base_url: str, url: str) -> str:
    text = (EXAMPLES / name / "homing.toml").read_text(encoding="utf-8")
    assert text.count(base_url) == 1
    return text.replace(base_url, url) + '\n[admin]\nlisten = "127.0.0.1:0"\n'


# payments


def paying(folder: Path, api: PaymentsApi, secret: str = SECRET) -> Serving:
    text = text_of("payments", "https://api.payments.example", "{provider}")
    return Serving(text, folder, api, {"PAY_SECRET_KEY": secret})


def test_a_charge_is_a_form(tmp_path: Path) -> None:
    api = PaymentsApi(SECRET)
    with paying(tmp_path, api) as homing:
        result = homing.call("pay.charge", CHARGE).result
    asked = homing.provider.log[0]
    key = asked.headers["idempotency-key"]
    assert parse_qsl(asked.body.decode()) == [
        ("amount", "1200"),
        ("currency", "eur"),
        ("source", "tok_1"),
        ("reference", key),
        ("metadata[order]", "17"),
        ("expand[]", "balance_transaction"),
    ]
    assert result == api.charges[0]


@pytest.mark.parametrize("card", ["tok_lost", "tok_busy", "tok_in_progress"])
def test_a_charge_is_asked_for_again_under_its_key(card: str, tmp_path: Path) -> None:
    api = PaymentsApi(SECRET)
    with paying(tmp_path, api) as homing:
        result = homing.call("pay.charge", {**CHARGE, "card": card}).result
    assert len(homing.provider.log) == 2
    assert [result] == api.charges


def test_a_charge_whose_answers_are_all_lost_is_found(tmp_path: Path) -> None:
    api = PaymentsApi(SECRET)
    with paying(tmp_path, api) as homing:
        result = homing.call("pay.charge", {**CHARGE, "card": "tok_lost_always"}).result
    assert [asked.method for asked in homing.provider.log] == ["POST", "POST", "POST", "GET"]
    assert [result] == api.charges


@pytest.mark.parametrize(("card", "requests"), [("tok_declined", 1), ("tok_lost_before", 2)])
def test_a_declined_card_is_a_proven_no_whatever_was_lost_before(card: str, requests: int, tmp_path: Path) -> None:
    api = PaymentsApi(SECRET)
    with paying(tmp_path, api) as homing:
        error = homing.call("pay.charge", {**CHARGE, "card": card}).error
    assert error["message"] == "Your card was declined."
    assert (error["data"]["reason"], error["data"]["executed"], error["data"]["retry"]) == ("provider_refused", "no", "pointless")
    assert (len(error["data"]["attempts"]), api.charges) == (requests, [])


def test_an_order_is_charged_once_however_often_it_is_sent(tmp_path: Path) -> None:
    api = PaymentsApi(SECRET)
    with paying(tmp_path, api) as homing:
        first, second = (homing.call("pay.charge", CHARGE, Idempotency_Key="order-17") for _ in range(2))
        other = homing.call("pay.charge", {**CHARGE, "amount": 1300}, Idempotency_Key="order-17")
    assert [first.result] == [second.result] == api.charges
    assert (other.data["reason"], other.data["executed"], other.data["retry"]) == ("provider_refused", "no", "pointless")


def test_refunds_reading_and_a_wrong_secret(tmp_path: Path) -> None:
    api = PaymentsApi(SECRET)
    with paying(tmp_path, api) as homing:
        charge = homing.call("pay.charge", CHARGE).result
        assert homing.call("pay.get", {"charge": charge["id"]}).result == charge
        assert homing.call("pay.get", {"charge": "ch_9"}).error["message"] == "No such charge."
        assert homing.call("pay.refund", {"charge": charge["id"]}).result["charge"] == charge["id"]
    (tmp_path / "again").mkdir()
    with paying(tmp_path / "again", api, "sk_wrong") as homing:
        data = homing.call("pay.charge", CHARGE).data
    assert (data["reason"], data["executed"], len(api.charges)) == ("provider_denied", "no", 1)


# chat


ASK = {"max_tokens": 50, "messages": [{"role": "user", "content": "Say hello."}]}


def chatting(folder: Path, *answers: Answer) -> Serving:
    text = text_of("chat", "https://api.chat.example", "{provider}")
    return Serving(text, folder, ChatApi(SECRET, *answers), {"CHAT_API_KEY": SECRET})


def test_a_completion_is_what_callers_need_of_it(tmp_path: Path) -> None:
    with chatting(tmp_path, said("Hello.")) as homing:
        assert homing.call("chat.complete", ASK).result == {"text": "Hello.", "stopped": "end_turn", "tokens": 3}
    assert homing.provider.log[0].json == {"model": "small-1", **ASK}


@pytest.mark.parametrize(
    "first",
    [
        refusal(429, "rate_limit_error", "slow down", **{"Retry-After": "1"}),
        refusal(529, "overloaded_error", "overloaded"),
        refusal(503, "api_error", "oops"),
        refusal(200, "overloaded", "overloaded"),
        refusal(200, "api_error", "oops"),
        Answer(drop=True),
    ],
)
def test_what_time_mends_is_asked_again(first: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(http_reply._STATUS, 529, b"HTTP/1.1 529 Overloaded")  # the test's provider says it, homing never does
    with chatting(tmp_path, first, said("Hello.")) as homing:
        assert homing.call("chat.complete", ASK).result["text"] == "Hello."
    assert len(homing.provider.log) == 2


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refusal(429, "spend_limit", "Your limit is used up."), ("provider_refused", "no", "pointless", None)),
        (
            refusal(429, "rate_limit_error", "slow down", **{"Retry-After": "3600"}),
            ("provider_throttled", "no", "safe", 3_600_000),
        ),
        (refusal(400, "invalid_request_error", "no"), ("provider_refused", "no", "pointless", None)),
    ],
)
def test_what_time_does_not_mend_in_time_is_told_at_once(answer: Answer, expected: Any, tmp_path: Path) -> None:
    with chatting(tmp_path, answer) as homing:
        data = homing.call("chat.complete", ASK).data
    assert (data["reason"], data["executed"], data["retry"], data.get("retry_after_ms")) == expected
    assert len(homing.provider.log) == 1


# the bureau


PERSON = {"name": "Ada", "born": "1815-12-10", "purpose": "RENT"}


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES / "bureau")


def enquiring(folder: Path, bureau: Bureau) -> Serving:
    return Serving(text_of("bureau", "https://gateway.bureau.example:8443/xml", bureau.url), folder)


@pytest.mark.usefixtures("codec")
def test_a_report_is_bought_with_a_certificate_and_read_from_xml(tmp_path: Path) -> None:
    with Bureau(tmp_path) as bureau, enquiring(tmp_path, bureau) as homing:
        result = homing.call("bureau.report", PERSON).result
    assert result == {"Number": bureau.record[0], "Score": "640", "Debt": ["1", "2"]}
    assert bureau.callers == ["a-lender"]


@pytest.mark.usefixtures("codec")
def test_a_report_that_was_lost_is_found_and_bought_once(tmp_path: Path) -> None:
    with Bureau(tmp_path) as bureau, enquiring(tmp_path, bureau) as homing:
        result = homing.call("bureau.report", {**PERSON, "name": "Lost"}).result
    assert [result["Number"]] == bureau.record


@pytest.mark.usefixtures("codec")
def test_a_busy_bureau_has_done_nothing_and_is_asked_again(tmp_path: Path) -> None:
    with Bureau(tmp_path) as bureau, enquiring(tmp_path, bureau) as homing:
        assert homing.call("bureau.report", {**PERSON, "name": "Patience"}).result["Score"] == "640"
    assert (len(bureau.callers), len(bureau.record)) == (2, 1)


@pytest.mark.usefixtures("codec")
@pytest.mark.parametrize(
    ("name", "reason", "executed", "retry", "message"),
    [
        ("Nobody", "provider_refused", "no", "pointless", "Nobody is known by this name."),
        ("Stranger", "provider_denied", "no", "pointless", "The contract has ended."),
        ("Oddity", "provider_failed", "unknown", "unsafe", "bureau did not answer as promised (200)"),
        ("Bomb", "provider_failed", "unknown", "unsafe", "bureau did not answer as promised (200)"),
    ],
)
def test_what_a_200_of_the_bureau_means(name: str, reason: str, executed: str, retry: str, message: str, tmp_path: Path) -> None:
    with Bureau(tmp_path) as bureau, enquiring(tmp_path, bureau) as homing:
        error = homing.call("bureau.report", {**PERSON, "name": name}).error
    assert (error["data"]["reason"], error["data"]["executed"], error["data"]["retry"]) == (reason, executed, retry)
    assert (error["message"], bureau.record) == (message, [])


@pytest.mark.usefixtures("codec")
def test_without_a_certificate_nothing_is_bought(tmp_path: Path) -> None:
    with Bureau(tmp_path) as bureau:
        text = text_of("bureau", "https://gateway.bureau.example:8443/xml", bureau.url)
        ours = 'client_cert = "certs/client.pem", client_key = "certs/client.key", '
        assert ours in text
        with Serving(text.replace(ours, ""), tmp_path) as homing:
            data = homing.call("bureau.report", PERSON).data
    assert data["executed"] != "yes"
    assert bureau.record == []


@pytest.mark.usefixtures("codec")
def test_the_codec_refuses_what_it_cannot_write() -> None:
    from importlib import import_module

    codec: Any = import_module("bureau_codec")
    assert codec.decode(codec.encode({"A": {"B": [1, True], "C": "<&>"}})[0]) == {"A": {"B": ["1", "true"], "C": "<&>"}}
    for wrong in ({}, {"A": 1, "B": 2}, "A"):
        with pytest.raises(ValueError, match="one root"):
            codec.encode(wrong)
    with pytest.raises(ValueError, match="DOCTYPE"):
        codec.decode(b"<!DOCTYPE x><x/>")


# all of them


@pytest.mark.usefixtures("codec")
@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()))
def test_check_finds_nothing_wrong_with_an_example(name: str, tmp_path: Path) -> None:
    from homing import config

    shutil.copytree(EXAMPLES / name, tmp_path, dirs_exist_ok=True)
    with Bureau(tmp_path):
        pass
    found = config.check(tmp_path / "homing.toml", environ={"PAY_SECRET_KEY": "x", "CHAT_API_KEY": "x"})
    assert [str(problem) for problem in found if not problem.warning] == []
