"""Keys for everybody of a round, made as an operator makes them, and what the brokers let each of them do."""

from pathlib import Path

import msgspec
from click.testing import CliRunner

from homing.cli import main

RIGHTS = {
    "gateway": 'call = ["*"]',
    "worker": 'serve = ["bank"]',
    "desk": 'serve = ["desk"]',
    "client": 'call = ["bank", "de*"]\nprincipal = "harness"',
    "stranger": 'call = ["nothing"]',
}
BROKER = "broker"


class Keys(msgspec.Struct, frozen=True):
    """Public keys by name; the files lie in `folder`."""

    folder: Path
    public: dict[str, str]

    def path(self, name: str) -> Path:
        """Where both keys of somebody are."""
        return self.folder / f"{name}.key"

    def peers(self) -> str:
        """The brokers' list, as tables."""
        stanzas = [f'[peers.{name}]\npublic_key = "{self.public[name]}"\n{rights}\n' for name, rights in RIGHTS.items()]
        return "\n".join(stanzas)

    def listens(self) -> str:
        """The line of whoever listens."""
        return f'curve = {{ key = "{self.path(BROKER).name}" }}'

    def dials(self, name: str) -> str:
        """The line of whoever dials under that name."""
        return f'curve = {{ key = "{self.path(name).name}", broker = "{self.public[BROKER]}" }}'


def make(folder: Path) -> Keys:
    """`homing keys curve` for each."""
    public: dict[str, str] = {}
    for name in (BROKER, *RIGHTS):
        (folder / f"{name}.key").unlink(missing_ok=True)  # of a start that came to nothing
        said = CliRunner().invoke(main, ["keys", "curve", name, "--out", str(folder), "--json"], catch_exceptions=False)
        public[name] = msgspec.json.decode(said.stdout, type=dict[str, str])["public_key"]
    return Keys(folder, public)
