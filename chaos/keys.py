"""Keys for everybody of a round, made as an operator makes them, and what the brokers let each of them do."""

import asyncio
from pathlib import Path

import msgspec

from chaos.processes import COMMAND

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


async def make(folder: Path) -> Keys:
    """`homing keys curve` for each."""

    async def one(name: str) -> tuple[str, str]:
        arguments = [*COMMAND, "keys", "curve", name, "--out", str(folder), "--json"]
        making = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE)
        said, _ = await making.communicate()
        return name, str(msgspec.json.decode(said)["public_key"])

    return Keys(folder, dict([await one(name) for name in (BROKER, *RIGHTS)]))
