"""Health and figures."""

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from tests.serving import Answer, Serving

HOUSE = """
[gateway]
anonymous = ["*"]
[admin]
listen = "127.0.0.1:0"
[providers.acme]
base_url = "{provider}"
retry = { attempts_max = 1 }
[methods."a.b"]
provider = "acme"
effect = "safe"
request = "POST /"
"""


def test_live_and_ready_in_words_and_in_detail(tmp_path: Path) -> None:
    with Serving(HOUSE, tmp_path) as homing:
        port = homing.process.admin_port
        assert homing.request("GET", "/livez", port=port).body == b"alive\n"
        assert homing.request("GET", "/readyz", port=port).body == b"ready\n"
        said = homing.request("GET", "/readyz?verbose", port=port).json
        assert (said["status"], said["open_calls"], said["providers"]) == ("ready", 0, {"acme": {"in_flight": 0}})


def test_a_providers_outage_does_not_turn_readiness(tmp_path: Path) -> None:
    with Serving(HOUSE, tmp_path, lambda asked: Answer(status=500)) as homing:
        for _ in range(30):
            homing.call("a.b")
        assert homing.call("a.b").data["reason"] == "circuit_open"
        assert homing.request("GET", "/readyz", port=homing.process.admin_port).status == 200


def test_figures_are_what_prometheus_reads(tmp_path: Path) -> None:
    with Serving(HOUSE, tmp_path, lambda asked: Answer(body=1)) as homing:
        homing.call("a.b")
        homing.call("no.such")
        page = homing.request("GET", "/metrics", port=homing.process.admin_port)
    families = {family.name: family for family in text_string_to_metric_families(page.body.decode())}
    calls = {tuple(sorted(sample.labels.items())): sample.value for sample in families["homing_calls"].samples}
    assert calls[("executed", "yes"), ("method", "a.b"), ("reason", "ok")] == 1
    assert calls[("executed", "no"), ("method", ""), ("reason", "method_not_found")] == 1
    counts = [sample for sample in families["homing_call_duration_seconds"].samples if sample.name.endswith("_count")]
    assert sum(sample.value for sample in counts) == 2
    assert {"homing_open_calls", "homing_queue_length", "homing_provider_in_flight", "homing_held_bytes"} <= families.keys()


def test_other_pages_and_methods(tmp_path: Path) -> None:
    with Serving(HOUSE, tmp_path) as homing:
        port = homing.process.admin_port
        assert homing.request("GET", "/nothing", port=port).status == 404
        refused = homing.request("POST", "/livez", b"", port=port)
        assert (refused.status, refused.headers["allow"]) == (405, "GET, HEAD")
        assert b"/metrics" in homing.request("GET", "/", port=port).body
