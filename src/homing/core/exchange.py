"""What one exchange with a provider takes and gives: plain values between the method's mapping and the provider edge."""

from typing import Literal, TypeAlias

import msgspec

from homing.errors import Verdict


class HttpRequest(msgspec.Struct, frozen=True):
    """A request ready to be written: the edge adds Host, Content-Length, Accept-Encoding and the provider's credentials only.

    `target` is the absolute path with its query, as it stands in the request line. `body` None means no body and no Content-Length.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes | None


class HttpResponse(msgspec.Struct, frozen=True):
    """A complete response, content decoded. Header names are lower-case, repeated ones joined by ", " (RFC 9110 section 5.3)."""

    status: int
    headers: dict[str, str]
    body: bytes


FailureReason: TypeAlias = Literal[
    "provider_unreachable",  # no byte was handed to the kernel
    "connection_lost",
    "response_invalid",
    "response_too_large",
    "timed_out",  # the deadline given to the exchange passed; the caller of the edge knows which bound that was
    "cancelled",
]


class ExchangeFailed(msgspec.Struct, frozen=True):
    """No complete response. `executed` is "no" only if not one byte of the request was handed to the kernel.

    `status` is there if the head of a response had arrived (a truncated or too large body).
    """

    reason: FailureReason
    executed: Verdict
    message: str
    status: int | None = None


ExchangeResult: TypeAlias = HttpResponse | ExchangeFailed
