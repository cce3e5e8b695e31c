from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homing.sources import Problem, Source, SyntaxProblem, parse_path, read_sources, show_path


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[my provider]\n", 1, 'a table\'s name with a space in it needs quotes: ["my provider"]'),
        ("[providers.my acme]\n", 1, 'needs quotes: [providers."my acme"]'),
        ("[[providers.my acme.answers]]\n", 1, 'needs quotes: [[providers."my acme".answers]]'),
        ("[gateway]\nmy key = 1\n", 2, 'a key with a space in it needs quotes: "my key"'),
        ('headers = { X Api Key = "a" }\n', 1, 'a key with a space in it needs quotes: "X Api Key"'),
        ("[gateway]\n\ndeadline = 60s\n", 3, 'a text needs quotes: "60s"'),
        ("listen = 127.0.0.1:8370\n", 1, 'a text needs quotes: "127.0.0.1:8370"'),
        ("effect = once # twice\n", 1, 'a text needs quotes: "once"'),
        ("when = https://x.example/a\n", 1, 'a text needs quotes: "https://x.example/a"'),
        ("health = True\n", 1, "TOML writes true, in lower case"),
        ("body = null\n", 1, "TOML has no null"),
        ("a = \n", 1, "a value is missing here"),
        ('a = "x" "y"\n', 1, "something follows the end of this value"),
        ("a: 1\n", 1, "TOML writes key = value"),
        ('{ "a": 1 }\n', 1, "this looks like JSON"),
        ("// a\n", 1, "a comment begins with #"),
        ("a\n", 1, "a = and a value were expected here"),
        ("a = {\n  b = 1 }\n", 1, "an inline table ends on the line it began on"),
        ("a = { b = 1,\n  c = 1 }\n", 1, "an inline table ends on the line it began on"),
        ("a = { b = 1, }\n", 1, "an inline table ends on the line it began on"),
        ("a = { b = 1\n", 1, "an inline table ends on the line it began on"),
        ("a = [1 2]\n", 1, "a comma or a ]"),
        ('a = "x\n', 1, "never closed"),
        ("a = 'x\n\n[gateway]\n", 1, "never closed"),
        ("a = \"\t''\"\nb = \"it's\"\nc = ['x]\n", 3, "never closed"),
        ('a = "c:\\dir"\n', 1, "a \\ in a string"),
        ("a = “x”\n", 1, "typographic quotes"),
        ("[gateway\n", 1, "ends with ]"),
        ("[gateway]\n[gateway]\n", 2, "the table [gateway] stands here for the second time"),
        ('[methods."a.b"]\n[methods."a.b"]\n', 2, 'the table [methods."a.b"] stands here for the second time'),
        ("a = 1\na = 2\n", 2, "this key stands here for the second time"),
        ("a = { b = 1, b = 2 }\n", 1, "this key stands here for the second time"),
        ("= 1\n", 1, "a [table] or a key = value was expected here"),
        ("a = { = 1 }\n", 1, "was expected here"),
        ("a = 2026-13-01\n", 1, ""),
        ("a = [1,\n", 2, ""),
        ('a = """x\n', 2, "never closed"),
    ],
)
def test_a_syntax_error_is_told_in_plain_words(tmp_path: Path, text: str, line: int, says: str) -> None:
    with pytest.raises(SyntaxProblem) as raised:
        Source(written(tmp_path, "homing.toml", text), "homing.toml")
    problem = raised.value.problem
    assert problem.line == line
    assert str(problem).startswith(f"homing.toml: line {line}, column ")
    assert says in problem.message


def test_every_truncation_of_a_file_is_read_or_refused_in_one_sentence(tmp_path: Path) -> None:
    text = '[a."b c"]\nx = { y = "z", w = [1, 2.5] } # é\n[[a.l]]\nt = """\nm\n"""\nd = 2026-01-01\n'
    for end in range(len(text)):
        _, problems = read_sources(written(tmp_path, "homing.toml", text[:end]))
        for problem in problems:
            assert problem.line
            assert "\n" not in problem.message


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'a = "x"\nb = "\xff"\n', "line 2: this is not UTF-8 text"),
        (b"a = " + b"[" * 5000, "nested too deeply"),
        (b"a = " + b"[" * 200 + b"]" * 200, "nested too deeply: more than 200 tables and lists"),
        (b"a" + b".a" * 200 + b" = 1", "nested too deeply"),
        (b"#" * (16 * 1024 * 1024 + 1), "over 16 MiB"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "homing.toml"
    path.write_bytes(content)
    with pytest.raises(SyntaxProblem, match=says):
        Source(path, "homing.toml")


def test_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "homing.toml"
    path.write_bytes(b"\xef\xbb\xbfa = 1\n")
    assert Source(path, "homing.toml").table == {"a": 1}


@pytest.mark.parametrize(("name", "says"), [("nope.toml", "homing init"), (".", "is a directory")])
def test_a_file_that_cannot_be_read_is_told_why(tmp_path: Path, name: str, says: str) -> None:
    sources, problems = read_sources(tmp_path / name)
    assert not sources
    assert says in str(problems[0])


def test_keys_are_found_on_their_lines(tmp_path: Path) -> None:
    text = """\
include = []
[gateway]
timeout.body = "1s"
tls = { cert = "" }
[providers."a.b"]

[[providers."a.b".answers]]
when = "x"
[[providers."a.b".answers]]
[providers."a.b".answers.extra]
when = "y"
"quoted key" = 1
"""
    source = Source(written(tmp_path, "homing.toml", text), "homing.toml")
    assert source.line_of(("include",)) == 1
    assert source.line_of(("gateway", "timeout", "body")) == 3
    assert source.line_of(("gateway", "tls", "cert")) == 4
    assert source.line_of(("gateway", "missing")) == 2
    assert source.line_of(("providers", "a.b", "answers", 0, "when")) == 8
    assert source.line_of(("providers", "a.b", "answers", 1, "extra", "when")) == 11
    assert source.line_of(("providers", "a.b", "answers", 1, "extra", "quoted key")) == 12
    assert source.line_of(("nothing",)) == 0


@given(st.lists(st.text() | st.integers(min_value=0, max_value=10**9), max_size=5))
def test_what_show_path_writes_parse_path_reads(keys: list[str | int]) -> None:
    path = ("a", *keys)
    assert parse_path(show_path(path)) == path


@pytest.mark.parametrize("text", ["a..b", "a b", ".a", "a.", "[0]b", 'a."b', "a.[0]"])
def test_what_is_no_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no path"):
        parse_path(text)


def test_includes_are_read_in_order_with_names_as_people_would_write_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, "homing.toml", 'include = ["providers/*.toml", "more/one.toml"]\n')
    for name in ("providers/b.toml", "providers/a.toml", "providers/c.txt"):
        written(tmp_path, name, "")
    written(tmp_path, "more/one.toml", 'include = ["../deep.toml"]\n')
    written(tmp_path, "deep.toml", "x = 1\n")
    monkeypatch.chdir(tmp_path)
    sources, problems = read_sources(Path("homing.toml"))
    assert not problems
    assert [source.name for source in sources] == [
        "homing.toml",
        "providers/a.toml",
        "providers/b.toml",
        "more/one.toml",
        "deep.toml",
    ]
    assert sources[-1].folder.resolve() == tmp_path


@pytest.mark.parametrize(
    ("include", "says", "warning"),
    [
        ('"a.toml"', 'expected one such as ["providers/*.toml"]', False),
        ("[1]", "expected a path or a pattern", False),
        ('["nope.toml"]', 'there is no file "nope.toml"', False),
        ('["nope/*.toml"]', '"nope/*.toml" matches no file', True),
        ('["homing.toml"]', "being read already", False),
        ('["loop.toml"]', "being read already", False),
        ('["a.toml", "*a.toml"]', "a.toml is included twice", False),
        ('["broken.toml"]', "broken.toml: line 1, column 4", False),
    ],
)
def test_an_include_that_is_wrong_is_told(tmp_path: Path, include: str, says: str, warning: bool) -> None:
    path = written(tmp_path, "homing.toml", f"include = {include}\n")
    written(tmp_path, "a.toml", "")
    written(tmp_path, "loop.toml", 'include = ["homing.toml"]\n')
    written(tmp_path, "broken.toml", "a =\n")
    _, (problem,) = read_sources(path)
    assert says in str(problem)
    assert problem.warning is warning


def test_syntax_errors_of_all_files_are_told_together(tmp_path: Path) -> None:
    path = written(tmp_path, "homing.toml", 'include = ["a.toml", "b.toml"]\n')
    written(tmp_path, "a.toml", "a =\n")
    written(tmp_path, "b.toml", "b =\n")
    assert [Path(problem.file).name for problem in read_sources(path)[1]] == ["a.toml", "b.toml"]


def test_a_problem_reads_as_file_path_and_sentence() -> None:
    path = show_path(("methods", "acme.charge", "deadline"))
    said = str(Problem("homing.toml", path, 'found "60x", expected a duration such as "60s"'))
    assert said == 'homing.toml: methods."acme.charge".deadline: found "60x", expected a duration such as "60s"'
