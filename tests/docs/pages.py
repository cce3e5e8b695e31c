"""The documentation as data: pages, their fenced blocks, headings and links.

The words after a block's language say what a test does with it, and are shown to no reader:

    sh                    run with bash, in the page's folder; `exit=1` expects that code, `background=NAME wait=PORT` goes on
                          running until another one of this name is started, `wait=PORT` alone waits for who was started with &,
                          `until=NAME:WORD` also until the one of that name has said it, `make` only asks make whether it
                          knows the targets
    python, js            run; with `file=NAME` written to the page's folder instead
    toml                  read without mistakes; with `file=NAME` written as well, with `from=PATH` a part of that file
    json, text … output   what the block before it printed; a line of … stands for any lines
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(\S*)([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)|\b(?:src|href)=\"([^\"]+)\"")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block. `words` are those after the language: `exit=1` is {"exit": "1"}, `output` is {"output": ""}."""

    page: Path
    line: int
    language: str
    text: str
    words: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """Every page there is, but for what the benchmark writes."""
    written = [page for page in sorted(DOCS.rglob("*.md")) if not page.is_relative_to(DOCS / "bench")]
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *written]


def name_of(page: Path) -> str:
    """A page's name in a test's id."""
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found: list[Block] = []
    for match in _FENCE.finditer(text):
        words = dict(word.partition("=")[::2] for word in match[2].split())
        found.append(Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[3], words))
    return found


def all_blocks() -> list[Block]:
    """The fenced blocks of all pages."""
    return [block for page in pages() for block in blocks_of(page)]


def prose_of(page: Path) -> str:
    """A page without its blocks and comments."""
    return _COMMENT.sub("", _FENCE.sub("", page.read_text(encoding="utf-8")))


def links_of(page: Path) -> list[str]:
    """Where a page's links lead."""
    return [match[1] or match[2] for match in _LINK.finditer(prose_of(page))]


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    anchors = set()
    for heading in _HEADING.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        anchors.add(re.sub(r"[^\w\- ]", "", plain).strip().replace(" ", "-"))
    return anchors
