"""Reports, made in Python and called through homing:

homing worker reports:worker --broker tcp://127.0.0.1:8372
"""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from homing import CallError, NotExecuted, Worker, current_call

worker = Worker("reports")
SALES = {2023: [310, 290, 402, 388], 2024: [355, 341, 420, 460]}


@dataclass
class Report:
    year: int
    format: str
    total: int


@worker.method(effect="safe", timeout=60)
async def build(year: Annotated[int, Meta(ge=2000)], format: Literal["pdf", "csv"] = "pdf") -> Report:
    """Build the report of a year."""
    if year not in SALES:
        raise CallError(4041, f"There are no sales of {year}.", {"years": list(SALES)}, executed="no")
    await asyncio.sleep(0.1)  # ask the database
    return Report(year, format, sum(SALES[year]))


@worker.method(effect="safe")
def primes(below: Annotated[int, Meta(le=10_000_000)]) -> int:
    """Count the primes below a number. It keeps a processor busy, so it runs in a process of its own."""
    sieve = bytearray([1]) * max(below, 2)
    sieve[0:2] = b"\0\0"
    for number in range(2, int(below**0.5) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, len(sieve), number)))
    return sum(sieve)


@worker.method(effect="keyed", timeout=10)
async def send(year: int, to: str) -> str:
    """Mail the report of a year, once for each idempotency key."""
    call = current_call()
    if call.remaining_s < 1:
        raise NotExecuted("There is not enough time left to reach the mail server.")
    return f"{year} to {to}, as {call.principal or 'anonymous'}"


if __name__ == "__main__":
    worker.run("tcp://127.0.0.1:8372")
