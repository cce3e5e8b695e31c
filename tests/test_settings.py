import msgspec
import pytest

from homing import settings
from homing.core import specs
from homing.decoding import Field, fields_of, is_section, unwrap
from homing.references import Referred, Secret


def sections(kind: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    found = [kind]
    for field in fields_of(kind).values():
        if is_section(field.hint):
            base = unwrap(field.hint)[2]
            assert isinstance(base, type)
            found += sections(base)
    return found


NAMED = [settings.Peer, settings.Principal, settings.Provider, settings.Method, settings.AnswerRow, *settings.Auth.__args__]
SECTIONS = [
    section for top in (settings.Gateway, settings.Admin, settings.Broker, settings.Worker, *NAMED) for section in sections(top)
]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_key_has_a_reason(section: type[msgspec.Struct]) -> None:
    assert all(field.reason for field in fields_of(section).values())


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_sections_are_frozen_and_know_their_keys_only(section: type[msgspec.Struct]) -> None:
    assert section.__struct_config__.frozen
    assert section.__struct_config__.forbid_unknown_fields


@pytest.mark.parametrize(
    ("ours", "theirs", "apart"),
    [
        (settings.Method, specs.MethodSpec, {"name"}),
        (settings.Lookup, specs.LookupSpec, set()),
        (settings.Idempotency, specs.IdempotencySpec, set()),
        (settings.AnswerRow, specs.AnswerRow, set()),
    ],
)
def test_the_core_has_the_same_keys_and_defaults(
    ours: type[msgspec.Struct], theirs: type[msgspec.Struct], apart: set[str]
) -> None:
    def told(fields: dict[str, Field]) -> dict[str, object]:
        return {key: (field.required, field.default) for key, field in fields.items() if key not in apart}

    assert told(fields_of(ours)) == told(fields_of(theirs))


def test_any_key_of_a_method_may_stand_in_defaults() -> None:
    assert fields_of(settings.Defaults).keys() == fields_of(settings.Method).keys()


def test_a_method_goes_to_the_core_with_all_it_has() -> None:
    method = settings.Method(
        provider="acme",
        request="GET /",
        answers=(settings.AnswerRow(when="status == `200`", is_="ok", executed="yes", retry=False, message="body"),),
        idempotency_key=settings.Idempotency(header="Key"),
        lookup=settings.Lookup(request="GET /x", query={"a": Referred("s3cret", "env:A"), "b": "=call.key"}),
    )
    spec = settings.method_spec("acme.charge", method)
    assert spec.lookup is not None
    assert type(spec.lookup.query["a"]) is str
    assert "s3cret" not in repr(method)
    assert spec == specs.MethodSpec(
        name="acme.charge",
        provider="acme",
        request="GET /",
        answers=(specs.AnswerRow(when="status == `200`", is_="ok", executed="yes", retry=False, message="body"),),
        idempotency_key=specs.IdempotencySpec(header="Key"),
        lookup=specs.LookupSpec(request="GET /x", query={"a": "s3cret", "b": "=call.key"}),
    )


def test_what_a_reference_led_to_is_no_expression() -> None:
    given: dict[str, object] = {
        "a": Referred("=call.key", "env:A"),
        "b": ["=call.key", Referred("==", "env:B")],
        "c": Referred("x=", "env:C"),
    }
    sent: dict[str, object] = {"a": "==call.key", "b": ["=call.key", "==="], "c": "x="}
    lookup = settings.Lookup(request="GET /x", query=given, found=Referred("=", "env:A"))
    spec = settings.method_spec("m", settings.Method(headers=given, query=given, body=given, lookup=lookup))
    assert spec.headers == spec.query == spec.body == sent
    assert spec.lookup == specs.LookupSpec(request="GET /x", query=sent, found="=")
    provider = settings.Provider(base_url="http://h", headers=given)
    assert settings.provider_spec("p", provider).headers == sent


def test_a_provider_goes_to_the_core_with_what_its_methods_take() -> None:
    provider = settings.Provider(
        base_url="https://acme.example",
        auth=settings.BearerAuth(token=Secret("t0ken")),
        headers={"Accept": "application/json"},
        error_body_max=5,
        call_id_header="X-Call",
    )
    assert settings.provider_spec("acme", provider) == specs.ProviderSpec(
        name="acme",
        base_url="https://acme.example",
        headers={"Accept": "application/json"},
        error_body_max=5,
        call_id_header="X-Call",
    )
    assert "t0ken" not in repr(provider)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: settings.DeadlineRange(default=400.0), "default, 400s, is above max, 300s"),
        (lambda: settings.BasicAuth(username="a:b", password=Secret("x")), "has no colon"),
        (lambda: settings.ProviderTls(client_key="k.pem"), "client_key stands without client_cert"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(wrong, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        wrong()


def test_a_burst_is_the_limit_when_left_out() -> None:
    assert settings.Rate(limit=5).burst_or_limit == 5
    assert settings.Rate(limit=5, burst=9).burst_or_limit == 9
