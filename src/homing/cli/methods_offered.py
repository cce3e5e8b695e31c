"""`homing methods --broker URL`: the methods that workers brought along, as the gateways of that broker know them."""

import asyncio
import time

import click
import msgspec

from homing.cli.call import in_options
from homing.cli.methods import print_table
from homing.cli.reading import print_json
from homing.client_zmq import Brokers, brokers
from homing.core.messages import MethodOffer

EXIT_FAILED = 1
REACH_S = 5.0  # how long a broker is tried
TELL_S = 1.0  # how long one that is there may take to say what it knows
LOOK_EVERY_S = 0.02


def list_offered(url: str, curve: str | None, broker_key: str | None, *, insecure: bool, as_json: bool) -> None:
    """Print what workers offer there. Exits with 1 if nobody can be reached, with 2 for what cannot be meant."""
    try:
        there = brokers(url, curve=curve, broker_key=broker_key, insecure=insecure)
    except ValueError as error:
        raise click.UsageError(in_options(str(error))) from None
    offers = asyncio.run(_offers(there))
    if offers is None:
        click.echo(f"No broker can be reached at {there}.", err=True)
        raise SystemExit(EXIT_FAILED)
    listed = [_shown(offer) for offer in sorted(offers, key=lambda offer: offer.name)]
    if as_json:
        print_json(listed)
    elif not listed:
        click.echo(f"the workers at {there} offer no methods of their own", err=True)
    else:
        print_table(listed)


async def _offers(there: Brokers) -> tuple[MethodOffer, ...] | None:
    """What is offered; None if no broker could be reached."""
    owner = there.owner_on(asyncio.get_running_loop())
    try:
        latest = time.monotonic() + REACH_S
        reached = False
        while not owner.offers and time.monotonic() < latest:
            if owner.reached and not reached:
                reached, latest = True, time.monotonic() + TELL_S
            await asyncio.sleep(LOOK_EVERY_S)
        return owner.offers if reached or owner.offers else None
    finally:
        owner.close()


def _shown(offer: MethodOffer) -> dict[str, object]:
    try:
        params: object = msgspec.json.decode(offer.params) if offer.params else None
    except (ValueError, RecursionError):  # a worker may say anything; a gateway leaves such a method out
        params = None
    return {
        "name": offer.name,
        "provider": None,
        "service": offer.service,
        "effect": offer.effect,
        "deadline_s": offer.timeout_ms / 1000 if offer.timeout_ms > 0 else None,
        "summary": offer.summary,
        "positional": list(offer.positional),
        "params": params,
    }
