"""`homing init`: a configuration to start from, that `homing check` finds nothing wrong with."""

import shlex
from pathlib import Path

import click

from homing.cli.reading import EXIT_CONFIGURATION, json_option, print_json
from homing.config import CONFIG_NAME

STARTER = """\
# A first provider of your own. `homing check` finds mistakes, `homing serve` runs it; every key is in docs/reference.

[gateway]
listen = "127.0.0.1:8370"
anonymous = ["shop.*"]          # no API key needed; with `homing keys new NAME` you need none of this

[providers.shop]
base_url = "https://httpbin.org/anything"      # it answers with what it was sent
# auth = { type = "bearer", token = "env:SHOP_TOKEN" }
timeout = { attempt = "30s" }

[methods."shop.find"]           # the quotes matter
provider = "shop"
summary = "Find the orders of a customer"
effect = "safe"                 # harmless to repeat, so homing may ask again
deadline = "30s"
request = "GET /customers/{customer}/orders{?limit}"

[methods."shop.find".params]    # JSON Schema; what does not fit is refused before anybody is asked
required = ["customer"]
additionalProperties = false
properties.customer.type = "string"
properties.limit = { type = "integer", minimum = 1, maximum = 100 }

[methods."shop.order"]
provider = "shop"
summary = "Place an order"
effect = "keyed"                # the provider knows an idempotency key again; else write "once", and it is never sent twice
idempotency_key = { header = "Idempotency-Key" }
deadline = "30s"
request = "POST /customers/{customer}/orders"
body = { article = "=params.article", pieces = "=params.pieces", reference = "=call.key" }
result = "body.json"            # JMESPath: what of the answer callers get

[methods."shop.order".params]
required = ["customer", "article", "pieces"]
additionalProperties = false
properties.customer.type = "string"
properties.article.type = "string"
properties.pieces = { type = "integer", minimum = 1 }
"""

NEXT_STEPS = """\
Next:
  {change}homing check
  homing try shop.order '{{"customer": "c1", "article": "bell", "pieces": 2}}' --dry-run
  homing serve
and from another terminal:
  homing call shop.order '{{"customer": "c1", "article": "bell", "pieces": 2}}'"""


@click.command(
    "init", short_help="Write a homing.toml to start from.", epilog="Example: homing init gateway && cd gateway && homing check"
)
@click.argument("folder", metavar="[DIR]", default=".", type=click.Path(file_okay=False, path_type=Path))
@json_option
def command(folder: Path, as_json: bool) -> None:
    """Write a homing.toml to start from into DIR (here, when left out). An existing one is left alone."""
    path = folder / CONFIG_NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as opened:
            opened.write(STARTER)
    except FileExistsError:
        click.echo(f"{path} is there already and stays as it is; give another folder: homing init DIR", err=True)
        raise SystemExit(EXIT_CONFIGURATION) from None
    except OSError as error:
        click.echo(f"{path} cannot be written: {error.strerror}", err=True)
        raise SystemExit(EXIT_CONFIGURATION) from None
    if as_json:
        print_json({"path": str(path)})
        return
    click.echo(f"wrote {path}")
    click.echo(NEXT_STEPS.format(change="" if folder == Path() else f"cd {shlex.quote(str(folder))}\n  "))
