"""What a gateway learns from workers: their methods, compiled, so that params are validated before anything is queued."""

from collections.abc import Collection, Sequence

import msgspec

from homing import forms
from homing.core.messages import MethodOffer
from homing.core.methods import Method, compile_method
from homing.core.specs import MethodSpec
from homing.telemetry import Log

WARNED_MAX = 1000  # offers that were found wrong and are remembered, so that each is told once


class Lessons:
    """Compiles offers. What was compiled before is kept; what is wrong is logged once, and left out."""

    def __init__(self, *, configured: Collection[str], log: Log) -> None:
        self._configured = configured
        self._log = log
        self._compiled: dict[MethodOffer, Method] = {}
        self._warned: dict[MethodOffer, None] = {}

    def take(self, offers: Sequence[MethodOffer]) -> dict[str, Method]:
        """The methods of these offers, by name. A configured name is its configuration's; of two offers the first wins."""
        compiled: dict[MethodOffer, Method] = {}
        learnt: dict[str, Method] = {}
        for offer in offers:
            if offer.name in self._configured or offer.name in learnt:
                continue
            method = self._compiled.get(offer) or self._compile(offer)
            if method is not None:
                compiled[offer] = learnt[offer.name] = method
        self._compiled = compiled
        return learnt

    def _compile(self, offer: MethodOffer) -> Method | None:
        if offer in self._warned:
            return None
        method, why = compile_offer(offer)
        if method is None:
            if len(self._warned) >= WARNED_MAX:
                del self._warned[next(iter(self._warned))]
            self._warned[offer] = None
            name = offer.name[:100]
            self._log.event("offer", f"The method {name!r} that a worker offers is left out: {why}", level="warning", method=name)
        return method


def compile_offer(offer: MethodOffer) -> tuple[Method | None, str]:
    """The method that a worker offers, or None and why it cannot be one."""
    schema: object = None
    try:
        forms.METHOD_NAME.parse(offer.name, forms.NOWHERE)
        if offer.params:
            schema = msgspec.json.decode(offer.params)
    except (ValueError, RecursionError) as error:
        return None, str(error)
    spec = MethodSpec(
        name=offer.name,
        service=offer.service,
        summary=offer.summary,
        deadline=offer.timeout_ms / 1000 if offer.timeout_ms > 0 else None,
        effect=offer.effect,
        positional=offer.positional,
        params=schema,
    )
    method, problems = compile_method(spec)
    if method is None:
        return None, "; ".join(f"{problem.path}: {problem.message}" for problem in problems if not problem.warning)
    return method, ""
