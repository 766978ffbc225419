"""The plain way to count events: an insert of the id and an upsert of the domain for each.

By the bare drivers, with statements prepared once; SQLite brings each commit to the disk, as the
classifier's does. It keeps no verdicts, no sums over all domains and no times.
"""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Protocol

import asyncpg

from services.classifier.evidence import Observation
from shared.contracts import Kind

_TABLES = (
    "CREATE TABLE plain_seen (id TEXT PRIMARY KEY)",
    "CREATE TABLE plain_domains (domain TEXT PRIMARY KEY, delivered BIGINT, bounced BIGINT)",
)
_SUM = "SELECT SUM(delivered + bounced) FROM plain_domains"
_MARK = "INSERT INTO plain_seen VALUES ($1) ON CONFLICT DO NOTHING"
_ADD = """
INSERT INTO plain_domains VALUES ($1, $2, $3) ON CONFLICT (domain) DO UPDATE SET
    delivered = plain_domains.delivered + excluded.delivered,
    bounced = plain_domains.bounced + excluded.bounced
"""


class Plain(Protocol):
    """A database that is counted into the plain way."""

    async def fill(self, domains: Sequence[str]) -> None:
        """Make domains known."""

    async def count(self, events: Sequence[Observation]) -> None:
        """Count some events in one transaction."""

    async def sum(self) -> int:
        """Tell how many events are counted."""


class _Sqlite:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def fill(self, domains: Sequence[str]) -> None:
        rows = ((domain,) for domain in domains)
        self._connection.execute("BEGIN")
        self._connection.executemany("INSERT INTO plain_domains VALUES ($1, 1, 0)", rows)
        self._connection.execute("COMMIT")

    async def count(self, events: Sequence[Observation]) -> None:
        self._connection.execute("BEGIN IMMEDIATE")
        for each in events:
            if self._connection.execute(_MARK, (each.key,)).rowcount:
                self._connection.execute(_ADD, _row(each))
        self._connection.execute("COMMIT")

    async def sum(self) -> int:
        return int(self._connection.execute(_SUM).fetchone()[0])


class _Postgres:
    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection

    async def fill(self, domains: Sequence[str]) -> None:
        rows = [(domain, 1, 0) for domain in domains]
        await self._connection.copy_records_to_table("plain_domains", records=rows)

    async def count(self, events: Sequence[Observation]) -> None:
        async with self._connection.transaction():
            for each in events:
                if await self._connection.execute(_MARK, each.key) == "INSERT 0 1":
                    await self._connection.execute(_ADD, *_row(each))

    async def sum(self) -> int:
        return int(await self._connection.fetchval(_SUM))


@asynccontextmanager
async def opened(url: str | None, folder: Path) -> AsyncIterator[Plain]:
    """Open empty tables: in the database of an SQLAlchemy URL, or in a file."""
    if url is None:
        with closing(sqlite3.connect(folder / "plain.sqlite", isolation_level=None)) as file:
            for text in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", *_TABLES):
                file.execute(text)
            yield _Sqlite(file)
        return
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        for text in _TABLES:
            await connection.execute(text)
        yield _Postgres(connection)
    finally:
        await connection.close()


def _row(each: Observation) -> tuple[str, int, int]:
    return each.domain, each.said == Kind.DELIVERED, each.said == Kind.BOUNCED
