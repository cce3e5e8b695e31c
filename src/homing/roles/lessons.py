"""What a gateway learns from workers: their methods, compiled, so that params are validated before anything is queued."""

import time
from collections import deque
from collections.abc import Collection, Sequence

import msgspec

from homing import forms
from homing.core.messages import MethodOffer
from homing.core.methods import Method, compile_method
from homing.core.specs import MethodSpec
from homing.telemetry import Log

WARNED_MAX = 1000  # offers that were found wrong and are remembered, so that each is told once
LINES_MAX, LINES_S = 20, 60.0  # in the log: a worker that offers ever other methods must not fill it
WHY_LENGTH_MAX = 500
NAMES_MAX = 50


class Lessons:
    """Compiles offers. What was compiled before is kept; what is wrong is logged once, and left out."""

    def __init__(self, *, configured: Collection[str], log: Log) -> None:
        self._configured = configured
        self._log = log
        self._compiled: dict[MethodOffer, Method] = {}
        self._warned: dict[MethodOffer, None] = {}
        self._told_at: deque[float] = deque(maxlen=LINES_MAX)

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

    def may_tell(self) -> bool:
        """Whether one more line may go into the log now. If so, it counts."""
        now = time.monotonic()
        if len(self._told_at) == LINES_MAX and now - self._told_at[0] < LINES_S:
            return False
        self._told_at.append(now)
        return True

    def _compile(self, offer: MethodOffer) -> Method | None:
        if offer in self._warned:
            return None
        method, why = compile_offer(offer)
        if method is None:
            if len(self._warned) >= WARNED_MAX:
                del self._warned[next(iter(self._warned))]
            self._warned[offer] = None
            if self.may_tell():
                name, why = offer.name[:100], why[:WHY_LENGTH_MAX]
                message = f"The method {name!r} that a worker offers is left out: {why}"
                self._log.event("offer", message, level="warning", method=name)
        return method


def listed(names: Sequence[str]) -> str:
    """Names of methods in a sentence, not too many of them."""
    more = f" and {len(names) - NAMES_MAX} more" if len(names) > NAMES_MAX else ""
    return f"{', '.join(names[:NAMES_MAX])}{more}" if names else "no methods of their own"


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
