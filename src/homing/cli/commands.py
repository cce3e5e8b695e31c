"""The list of commands: what they are called, where they are, and one line each for the help."""

import msgspec


class Listed(msgspec.Struct, frozen=True):
    """A command. `module` is its file in `homing.cli`, whose `command` is the click command."""

    module: str
    summary: str
    hidden: bool = False


COMMANDS: dict[str, Listed] = {
    "demo": Listed("demo", "Everything in one process with a demo provider, and lines to paste."),
    "init": Listed("init", "Write a homing.toml to start from."),
    "check": Listed("check", "Find every mistake in the configuration, and what is unwise."),
    "serve": Listed("serve", "Run gateway, broker and worker, in one process or several."),
    "gateway": Listed("gateway", "Run a gateway: callers come in, brokers get their calls."),
    "broker": Listed("broker", "Run a broker: queues between gateways and workers."),
    "worker": Listed("worker", "Run a worker: it asks the providers, or calls Python functions."),
    "call": Listed("call", "Call a method, or many from a file."),
    "try": Listed("try_", "Show the request a call would send, or what an answer would mean."),
    "methods": Listed("methods", "List the methods."),
    "keys": Listed("keys", "Make API keys, and keys for processes."),
    "simulate": Listed("simulate", "Run the whole system on a virtual clock and break it."),
    "reference": Listed("reference", "Print a page of the reference.", hidden=True),
}
