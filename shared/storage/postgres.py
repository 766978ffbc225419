"""A PostgreSQL server: a pool of connections, and a schema for each service."""

from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlencode

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from shared.config.url import DATABASE_TLS

POOL_SIZE = 5  # connections to PostgreSQL a service

T = TypeVar("T")


class PostgresDatabase:
    """The schema of one service on a PostgreSQL server."""

    def __init__(self, url: str, service: str) -> None:
        address, tls = _without_tls(sa.make_url(url))
        self._writer = create_async_engine(
            address,
            hide_parameters=True,
            pool_size=POOL_SIZE,
            pool_pre_ping=True,  # a server that was restarted costs a reconnect, not an error
            connect_args={"server_settings": {"search_path": service}, **tls},
        )
        # The same pool.
        self._reader = self._writer.execution_options(postgresql_readonly=True)

    async def write(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a transaction of its own."""
        return await _run(self._writer, work)

    async def read(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` in a transaction of its own that only reads."""
        return await _run(self._reader, work)

    async def read_inline(self, work: Callable[[sa.Connection], T]) -> T:
        """Run `work` like any other that only reads."""
        return await self.read(work)

    async def empty_log(self) -> None:
        """Return at once: the log of a server is its own."""

    def glance(self, _query: str) -> None:
        """Return None: a server would have to be asked."""

    async def close(self) -> None:
        """Close the connections."""
        await self._writer.dispose()


def sqlstate(error: Exception) -> str:
    """Return the code that PostgreSQL, or its driver, gives an error; empty without one."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def _without_tls(url: sa.URL) -> tuple[sa.URL, Mapping[str, str]]:
    """Return an address without its parameters of TLS, and asyncpg's argument that has them.

    It takes files of certificates in an address of libpq's alone, and reads them at each connect.
    """
    given = {name: str(url.query[name]) for name in DATABASE_TLS if name in url.query}
    if mode := url.query.get("ssl"):
        given["sslmode"] = str(mode)
    dsn = f"postgresql://?{urlencode(given)}"
    return url.difference_update_query((*given, "ssl")), {"dsn": dsn} if given else {}


async def _run(engine: AsyncEngine, work: Callable[[sa.Connection], T]) -> T:
    async with engine.begin() as connection:
        return await connection.run_sync(work)
