"""The configured providers, as the worker reaches them: connections and credentials."""

import asyncio

from homing.config import Config
from homing.edges.connect import TlsSettings
from homing.edges.provider import Provider, ProviderSettings
from homing.edges.resolver import Resolver
from homing.roles.worker import Remote
from homing.settings import Provider as ProviderTable


def remotes_of(config: Config, resolver: Resolver, loop: asyncio.AbstractEventLoop) -> dict[str, Remote]:
    """One for each `[providers.…]`. Raises ValueError for a certificate that is none."""
    remotes: dict[str, Remote] = {}
    for name, table in config.providers.items():
        edge = Provider(_settings(name, table), loop, resolver=resolver)
        remotes[name] = Remote(name, edge, None, table.request_id_header.lower())
    return remotes


def _settings(name: str, table: ProviderTable) -> ProviderSettings:
    return ProviderSettings(
        name=name,
        base_url=str(table.base_url),
        connect_timeout_s=table.timeout.connect,
        response_bytes_max=table.response_max,
        idle_connections_max=table.in_flight_max,
        proxy=str(table.proxy),
        tls=TlsSettings(
            ca=str(table.tls.ca),
            client_cert=str(table.tls.client_cert),
            client_key=str(table.tls.client_key),
            min_version=table.tls.min_version,
        ),
    )
