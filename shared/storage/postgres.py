"""A PostgreSQL server, or a primary and its standbys: connections, and a schema a service."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlencode

import asyncpg
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from shared.config.url import DATABASE_TLS, each_host
from shared.runtime.outage import is_refused_by_tls

POOL_SIZE = 5  # connections to PostgreSQL a service
# Of several servers one may be lost with its machine, and nothing refuses a connection to it.
CONNECT_SECONDS = 5.0
_READ_ONLY = "25006"
# https://www.postgresql.org/docs/current/errcodes-appendix.html: starting or ending; full
_AWAY_STATES = frozenset({"57P03", "53300", _READ_ONLY})

T = TypeVar("T")


class PostgresDatabase:
    """The schema of one service on a PostgreSQL server, or on the primary of several."""

    def __init__(self, url: str, service: str) -> None:
        servers = [sa.make_url(each) for each in each_host(url)]
        address, tls = _without_tls(servers[0])
        connect = PrimaryConnector(servers).connect
        self._writer = create_async_engine(
            address,
            hide_parameters=True,
            pool_size=POOL_SIZE,
            pool_pre_ping=True,  # a server that was restarted costs a reconnect, not an error
            connect_args={
                "server_settings": {"search_path": service},
                "async_creator_fn": connect,
                **tls,
            },
        )
        sa.event.listen(self._writer.sync_engine, "handle_error", _leave_a_demoted_server)
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


class PrimaryConnector:
    """Connects to the server that takes writes, of one or several; first to the one used last."""

    def __init__(self, servers: Sequence[sa.URL]) -> None:
        self._places: list[Mapping[str, Any]] = [
            {"host": each.host, "port": each.port, "timeout": CONNECT_SECONDS} for each in servers
        ]
        if len(servers) == 1:  # its address also has what is no host: the folder of a socket file
            self._places = [{}]

    async def connect(self, **arguments: Any) -> Any:  # noqa: ANN401 -- as asyncpg has it
        """Return a connection of asyncpg's.

        Raises OSError if no server is there that takes writes, and PostgresError if one refuses.
        """
        errors: list[Exception] = []
        for place in tuple(self._places):
            try:
                connection = await asyncpg.connect(
                    **{**arguments, **place}, target_session_attrs="read-write"
                )
            except asyncpg.TargetServerAttributeNotMatched:
                errors.append(ConnectionError("it takes no writes: a standby, or demoted"))
            except (OSError, asyncpg.PostgresError) as error:
                errors.append(error)
            else:
                self._places.sort(key=lambda each: each is not place)
                return connection
        raise min(errors, key=is_away)


def is_away(error: Exception) -> bool:
    """Return whether there is no server, or it accepts no logins for a moment."""
    if isinstance(error, OSError):
        return not is_refused_by_tls(error)
    return sqlstate(error) in _AWAY_STATES


def sqlstate(error: BaseException | None) -> str:
    """Return the code that PostgreSQL, or its driver, gives an error; empty without one."""
    return getattr(getattr(error, "orig", error), "sqlstate", None) or ""


def _leave_a_demoted_server(context: sa.ExceptionContext) -> None:
    """Drop all connections when a server takes no writes any more: another one may be primary."""
    if sqlstate(context.original_exception) == _READ_ONLY:
        context.is_disconnect = True


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
