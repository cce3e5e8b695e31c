"""The configured providers, as the worker reaches them: connections and credentials."""

import asyncio

from msgspec.structs import replace

from homing.config import Config
from homing.edges.connect import TlsSettings
from homing.edges.credentials import (
    ClientCredentials,
    Credentials,
    HeaderCredentials,
    QueryCredentials,
    basic,
    bearer,
    token_target,
)
from homing.edges.provider import Provider, ProviderSettings
from homing.edges.resolver import Resolver
from homing.roles.worker import Remote
from homing.settings import BasicAuth, BearerAuth, HeaderAuth, OAuth2Auth, QueryAuth
from homing.settings import Provider as ProviderTable


def remotes_of(config: Config, resolver: Resolver, loop: asyncio.AbstractEventLoop) -> dict[str, Remote]:
    """One for each `[providers.…]`. Raises ValueError for a certificate that is none."""
    remotes: dict[str, Remote] = {}
    for name, table in config.providers.items():
        edge = Provider(_settings(name, table), loop, resolver=resolver)
        remotes[name] = Remote(name, edge, _credentials(name, table, resolver, loop), table.request_id_header.lower())
    return remotes


def _credentials(name: str, table: ProviderTable, resolver: Resolver, loop: asyncio.AbstractEventLoop) -> Credentials | None:
    auth = table.auth
    if isinstance(auth, BearerAuth):
        return bearer(loop, auth.token.reveal())
    if isinstance(auth, BasicAuth):
        return basic(loop, str(auth.username), auth.password.reveal())
    if isinstance(auth, HeaderAuth):
        return HeaderCredentials(loop, str(auth.name), auth.value.reveal())
    if isinstance(auth, QueryAuth):
        return QueryCredentials(loop, str(auth.name), auth.value.reveal())
    if isinstance(auth, OAuth2Auth):
        url = str(auth.token_url)
        return ClientCredentials(
            loop,
            Provider(replace(_settings(f"{name}.auth", table), base_url=url, idle_connections_max=1), loop, resolver=resolver),
            target=token_target(url),
            client_id=str(auth.client_id),
            client_secret=auth.client_secret.reveal(),
            scopes=auth.scopes,
        )
    return None


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
