"""What the processes of a round read: one file for all roles, and a codec that holds the GIL."""

from chaos.keys import Keys

_TABLES = """
[gateway]
listen = "127.0.0.1:0"
anonymous = ["*"]
{gateway}
deadline = { default = "10s", max = "60s" }
drain = { delay = "0s", timeout = "20s" }

[admin]
listen = "127.0.0.1:0"

[broker]
no_worker_after = "8s"
{broker}

[worker]
{worker}
drain = { delay = "0s", timeout = "20s" }

[providers.bank]
base_url = "env:BANK_URL"
in_flight_max = 256
timeout = { connect = "3s" }
retry = { attempts_max = 3 }
breaker = { window = "30s", calls_min = 1000000, failure_ratio = 1.0, open_for = "1s" }

[methods."bank.once"]
provider = "bank"
effect = "once"
request = "POST /once/{token}{?end,delay_ms}"
result = "body.token"

[methods."bank.keyed"]
provider = "bank"
effect = "keyed"
idempotency_key = { header = "Idempotency-Key" }
request = "POST /keyed/{token}{?end,delay_ms}"
result = "body.token"

[methods."bank.safe"]
provider = "bank"
effect = "safe"
request = "POST /safe/{token}{?end,delay_ms}"
result = "body.token"

[methods."bank.stuck"]
provider = "bank"
effect = "safe"
request = "POST /safe/{token}{?end,delay_ms}"
encode = "python:stuck:hold"
result = "body.token"
"""

STUCK = '''"""A codec that holds the GIL: no thread of the process runs until it is done, and no heartbeat of its own leaves."""

import ctypes
import json


def hold(value):
    ctypes.PyDLL(None).usleep(int(value["seconds"] * 1_000_000))
    return json.dumps(value).encode(), "application/json"
'''


def tables(*, listen: str = "", keys: Keys | None = None, worker: str = "worker") -> str:
    """The file. `listen` opens the broker of a house to others; `worker` is under which name a worker dials."""
    lines = {"gateway": "", "broker": f'listen = "{listen}"' if listen else "", "worker": "insecure = true"}
    if keys is not None:
        lines = {"gateway": keys.dials("gateway"), "broker": f"{lines['broker']}\n{keys.listens()}", "worker": keys.dials(worker)}
    text = _TABLES
    for name, line in lines.items():
        text = text.replace(f"{{{name}}}", line)
    return text if keys is None else f"{text}\n{keys.peers()}"
