"""The documentation holds together: links lead somewhere, examples are examples of something, pages agree with the code."""

import ast
import inspect
import json
import re
import tomllib
from http import HTTPStatus
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import msgspec
import pytest

import homing
from homing import config
from homing.core import messages
from homing.edges import http_chunks, http_connection, http_head, rpc
from homing.engines.zmq_curve import new_keys
from homing.errors import ROWS
from homing.sim.invariants import RULES
from homing.telemetry import CallLine, Metrics
from homing.units import parse_duration
from tests.docs import commands
from tests.docs.pages import DOCS, ROOT, Block, all_blocks, anchors_of, blocks_of, links_of, name_of, pages, prose_of

LANGUAGES = {"sh", "python", "js", "toml", "json", "text", "yaml", "nginx"}
LINE_MAX = 140
WRITTEN = {page for page in pages() if page.is_relative_to(DOCS)} - {DOCS / "README.md"}


# links


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links_of(page):
        where = urlsplit(link)
        if where.scheme:
            assert where.scheme == "https", link
            continue
        target = (page.parent / where.path).resolve() if where.path else page
        assert target.exists(), f"{link} leads nowhere"
        assert target.is_relative_to(ROOT)
        if where.fragment:
            assert where.fragment in anchors_of(target), f"{link}: there is no such heading"


def test_every_page_can_be_reached_from_the_readme() -> None:
    readme = ROOT / "README.md"
    reached, left = set(), [readme]
    while left:
        page = left.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        paths = [urlsplit(link).path for link in links_of(page) if not urlsplit(link).scheme]
        left += [(page.parent / path).resolve() for path in paths if path]
    assert {name_of(page) for page in WRITTEN - reached} == set()


def test_the_index_lists_every_page() -> None:
    listed = {(DOCS / link).resolve() for link in links_of(DOCS / "README.md")}
    assert listed == WRITTEN


@pytest.mark.parametrize("picture", sorted((DOCS / "explanation").glob("*.svg")), ids=name_of)
def test_a_picture_can_be_seen(picture: Path) -> None:
    root = ET.parse(picture).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert {"width", "height", "viewBox"} <= set(root.attrib)


@pytest.mark.parametrize("page", [page for page in pages() if page.parent.name != "reference"], ids=name_of)
def test_prose_fits_on_a_line(page: Path) -> None:
    for number, line in enumerate(prose_of(page).splitlines(), 1):
        assert len(line) <= LINE_MAX or "|" in line or line.startswith("!["), f"line {number} has {len(line)} characters"


# blocks


@pytest.mark.parametrize("block", all_blocks(), ids=str)
def test_a_block_is_of_a_kind_that_is_tested(block: Block) -> None:
    assert block.language in LANGUAGES
    assert set(block.words) <= {"output", "file", "from", "exit", "background", "wait", "until", "make"}


def completed(text: str) -> str:
    """A part of a configuration with the providers it takes for granted."""
    table = tomllib.loads(text)
    wanted = {method["provider"] for method in table.get("methods", {}).values() if "provider" in method}
    wanted |= set(table.get("providers", {}))
    lacking = [name for name in sorted(wanted) if "base_url" not in table.get("providers", {}).get(name, {})]
    head = "".join(f'[providers.{name}]\nbase_url = "https://api.{name}.example/v2"\n\n' for name in lacking)
    return head + text


@pytest.mark.parametrize(
    "block", [each for each in all_blocks() if each.language == "toml" and "from" not in each.words], ids=str
)
def test_configurations_have_no_mistakes(block: Block, tmp_path: Path) -> None:
    text = block.text if block.words.get("file", "").endswith("homing.toml") else completed(block.text)
    for path in re.findall(r'"(certs/[^"]+)"', text):
        text = text.replace(path, "")  # made on the page; the walk reads them
    for name in re.findall(r'curve = \{ key = "([^"]+)"', text):
        public, secret = new_keys()  # made on the page
        (tmp_path / name).write_text(f'public_key = "{public}"\nsecret_key = "{secret}"\n', encoding="utf-8")
        (tmp_path / name).chmod(0o600)
    for name in re.findall(r'"file:([a-z.]+)"', text):
        (tmp_path / name).write_text("secret", encoding="utf-8")
    for other in blocks_of(block.page) if "include" in text else []:
        (tmp_path / Path(other.words.get("file", "unnamed")).name).write_text(other.text, encoding="utf-8")
    (tmp_path / "homing.toml").write_text(text, encoding="utf-8")
    environ = dict.fromkeys(re.findall(r"env:(\w+)", text), "sha256:" + "0" * 64)
    found = config.read(tmp_path / "homing.toml", environ=environ)
    assert [str(problem) for problem in found.problems if not problem.warning] == []


@pytest.mark.parametrize("block", [each for each in all_blocks() if "from" in each.words], ids=str)
def test_a_part_of_an_example_is_in_it(block: Block) -> None:
    assert block.text in (ROOT / block.words["from"]).read_text(encoding="utf-8")


@pytest.mark.parametrize("block", [each for each in all_blocks() if each.language == "json"], ids=str)
def test_json_is_json(block: Block) -> None:
    json.loads(block.text)


def test_every_part_of_an_example_is_explained() -> None:
    """Tables of the three examples that matter stand on their pages."""
    for name, page in (("payments", "payments-api"), ("chat", "chat-completion"), ("bureau", "xml-bureau")):
        example = (ROOT / "examples" / name / "homing.toml").read_text(encoding="utf-8")
        shown = "".join(block.text for block in blocks_of(DOCS / "how-to" / f"{page}.md") if "from" in block.words)
        providers = re.findall(r"^\[+providers\.\S+\]+$", example, re.MULTILINE)
        assert [table for table in providers if table not in shown] == []


# pages and code


def test_the_commands_page_is_what_help_prints() -> None:
    """If this fails: `python -m tests.docs.commands > docs/reference/commands.md`."""
    assert (DOCS / "reference" / "commands.md").read_text(encoding="utf-8") == commands.page()


HTTP = (DOCS / "reference" / "http.md").read_text(encoding="utf-8")


def statuses_in(module: ModuleType) -> set[int]:
    """Every number in a module's code that can be nothing but a status of HTTP."""
    numbers = {node.value for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Constant)}
    return {number for number in numbers if isinstance(number, int) and number >= 400 and number in set(HTTPStatus)}


def test_the_http_page_has_every_status() -> None:
    on_page = {int(status) for status in re.findall(r"^\| (\d{3}) \|", HTTP, re.MULTILINE)}
    used = set().union(*map(statuses_in, (http_head, http_chunks, http_connection, rpc)))
    assert on_page == used | {row.http_status for row in ROWS.values()} | {204}


def test_the_http_page_has_every_header() -> None:
    exposed = dict([rpc._EXPOSED])[b"Access-Control-Expose-Headers"].decode().split(", ")
    assert [name for name in exposed if f"| `{name}` |" not in HTTP] == []


def test_the_limits_on_the_http_page_are_those_of_the_configuration() -> None:
    made = (DOCS / "reference" / "configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z]+)\.((?:NAME\.)?)([a-z_.]+)` \| (`\S+`|none|on) \|", HTTP, re.MULTILINE)
    assert len(rows) > 12
    for section, named, key, default in rows:
        part = made.partition(f"## `[{section}{named and '.NAME'}]`\n")[2].partition("\n## ")[0]
        if default == "on":
            assert f"| `{key}." in part
        else:
            shown = "" if default == "none" else f"{default} "
            assert re.search(rf"^\| `{re.escape(key)}` \| [^|]+ \| {re.escape(shown)}\|", part, re.MULTILINE), f"{section}.{key}"


def test_the_python_page_has_every_signature() -> None:
    page = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")

    def written(function: object, name: str) -> str:
        assert callable(function)
        signature = inspect.signature(function)
        plain = [
            each.replace(annotation=inspect.Parameter.empty) for each in signature.parameters.values() if each.name != "self"
        ]
        return f"{name}{signature.replace(parameters=plain, return_annotation=inspect.Signature.empty)}"

    for client in (homing.Client, homing.AsyncClient):
        assert f"`{written(client.__init__, 'Client')}`" in page
        for name in ("call", "batch", "notify", "close"):
            assert f"`{written(getattr(client, name), name)}`" in page
    for name in homing.__all__:
        assert name in page or name == "__version__"
    attributes = vars(homing.OutcomeUnknown(1, "x"))
    assert [name for name in attributes if f"`{name}`" not in page] == []


def test_the_protocol_page_has_every_message_and_field() -> None:
    page = (DOCS / "reference" / "protocol.md").read_text(encoding="utf-8")
    for name, message in inspect.getmembers(messages, inspect.isclass):
        if message.__module__ == messages.__name__ and issubclass(message, msgspec.Struct):
            fields = ", ".join(message.__struct_fields__)
            assert f"`{name}({fields})`" in page


def test_the_telemetry_page_has_every_field_and_metric() -> None:
    page = (DOCS / "reference" / "telemetry.md").read_text(encoding="utf-8")
    assert [name for name in CallLine.__struct_fields__ if f"| `{name}` |" not in page] == []
    roles = sorted((ROOT / "src" / "homing" / "roles").glob("*.py"))
    sources = "".join(path.read_text(encoding="utf-8") for path in roles) + inspect.getsource(Metrics)
    kinds = re.findall(r'(?:(gauge|counter)\(|(Counter|Histogram)MetricFamily\()\s*"(homing_\w+)"', sources)
    named = {name + ("_total" if kind == "counter" or family == "Counter" else "") for kind, family, name in kinds}
    named |= set(re.findall(r'^\s*(homing_\w+)=\("', sources, re.MULTILINE))  # those of a supervisor
    assert len(named) > 10
    assert set(re.findall(r"^\| `(homing_\w+)` \|", page, re.MULTILINE)) == named
    for block in all_blocks():
        if block.language == "yaml":
            asked = {name.removesuffix("_bucket") for name in re.findall(r"\bhoming_\w+", block.text)}
            assert asked <= named, f"{block}: {asked - named}"


def test_alerts_name_reasons_that_there_are() -> None:
    rules = "".join(block.text for block in blocks_of(DOCS / "how-to" / "operate.md") if block.language == "yaml")
    asked = [reason for match in re.findall(r'reason=~?"([^"]+)"', rules) for reason in match.split("|")]
    assert asked
    assert [reason for reason in asked if reason not in ROWS] == []


def test_the_promise_page_has_every_rule_of_the_simulator() -> None:
    page = (DOCS / "explanation" / "promise.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| ([a-z' ]+) \| [A-Z`]", page, re.MULTILINE) == list(RULES)


def test_a_pod_lives_long_enough_to_drain() -> None:
    page = DOCS / "how-to" / "kubernetes.md"
    configuration, pod = blocks_of(page)
    gateway = tomllib.loads(configuration.text)["gateway"]
    leaving_s = parse_duration(gateway["drain"]["delay"]) + parse_duration(gateway["drain"]["timeout"])
    grace = re.search(r"terminationGracePeriodSeconds: (\d+)", pod.text)
    assert grace is not None
    assert int(grace[1]) > leaving_s
    assert parse_duration(gateway["drain"]["timeout"]) > parse_duration(gateway["deadline"]["max"])
    assert f"TimeoutStopSec={grace[1]}" in page.read_text(encoding="utf-8")


def test_the_readme_has_a_place_for_the_figures() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.count("<!-- bench:begin -->") == text.count("<!-- bench:end -->") == 1
    assert text.index("<!-- bench:begin -->") < text.index("<!-- bench:end -->")
