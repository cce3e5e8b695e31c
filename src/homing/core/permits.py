"""Who may serve and who may call which service, and in whose name: what a broker holds each key to."""

import msgspec

EVERYTHING = ("*",)


class Permit(msgspec.Struct, frozen=True):
    """What one user may do. Patterns are a service's name, or a prefix of it ending in `*`.

    Whoever has a `principal` may call in its name only; whoever has none, in any.
    """

    serve: tuple[str, ...] = ()
    call: tuple[str, ...] = ()
    principal: str = ""

    def serves(self, service: str) -> bool:
        """Whether it may offer this service."""
        return matches(self.serve, service)

    def calls(self, service: str) -> bool:
        """Whether it may call this service."""
        return matches(self.call, service)


NOTHING = Permit()
ANYTHING = Permit(EVERYTHING, EVERYTHING)


def matches(patterns: tuple[str, ...], name: str) -> bool:
    """Whether any of the patterns is the name, or a beginning of it followed by `*`."""
    return any(name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern for pattern in patterns)
