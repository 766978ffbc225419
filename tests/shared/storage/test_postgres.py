"""A primary and its standby: where a store goes when one is lost, promoted or demoted."""

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from ops import ports
from ops.postgres import CRASH_SAFE, REPLICATED, PostgresAccount, PostgresPrograms, PostgresServer
from shared.errors import DatabaseAway
from shared.storage.database import Database, HandlerDatabase
from shared.storage.postgres import PostgresDatabase
from tests.waiting import until

pytestmark = pytest.mark.postgres

Pair = tuple[PostgresServer, PostgresServer]


@pytest.fixture
def pair(run_directory: Path) -> Iterator[Pair]:
    """Start a primary, whose commits wait for its standby, and the standby."""
    programs = PostgresPrograms.find()
    if programs is None:
        pytest.skip("a PostgreSQL in a container has no standby")
    account = PostgresAccount(ports.unused(1)[0])
    other = PostgresAccount(ports.unused(1)[0], account.password)
    primary = PostgresServer(run_directory / "postgres-primary", account, programs, REPLICATED)
    standby = PostgresServer(run_directory / "postgres-standby", other, programs, CRASH_SAFE)
    primary.start()
    try:
        standby.follow(account)
        yield primary, standby
    finally:
        standby.discard()
        primary.discard()


async def execute(url: str, *statements: str) -> None:
    """Execute statements as the administrator of one server."""
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    async with engine.connect() as administrator:
        for statement in statements:
            await administrator.exec_driver_sql(statement)


async def write(notes: Database, text: str) -> None:
    """Write a note in a transaction of its own."""
    note = sa.text("INSERT INTO notes (text) VALUES (:text)").bindparams(text=text)
    await notes.write(lambda connection: connection.execute(note))


async def read(notes: Database) -> Sequence[str]:
    """Read all notes."""
    look = sa.text("SELECT text FROM notes ORDER BY text")
    return await notes.read(lambda connection: list(connection.scalars(look)))


async def demote(server: PostgresServer, is_demoted: str) -> None:
    """Set whether a server is demoted: it then refuses all writes."""
    setting = f"ALTER SYSTEM SET default_transaction_read_only = {is_demoted}"
    await execute(server.account.url(), setting, "SELECT pg_reload_conf()")


async def test_a_store_goes_where_writes_are_taken(pair: Pair) -> None:
    """A lost primary and a demoted one are a database that is away; its standby is the next."""
    primary, standby = pair
    tables = ("CREATE SCHEMA notes", "CREATE TABLE notes.notes (text text)")
    await execute(primary.account.url(), *tables)
    server = PostgresDatabase(primary.account.url(standby=standby.account.port), "notes")
    notes = HandlerDatabase(Database(server), "the notes")

    async def takes() -> bool:
        try:
            await write(notes, "again")
        except DatabaseAway:
            return False
        return True

    async def refuses() -> bool:
        return not await takes()

    try:
        await write(notes, "on both")
        primary.send_signal(signal.SIGKILL)
        with pytest.raises(DatabaseAway):
            await write(notes, "on none")
        standby.promote()
        await write(notes, "on the other")
        assert await read(notes) == ["on both", "on the other"]

        await demote(standby, "on")
        await until(refuses)  # its connections learn it a moment later
        with pytest.raises(DatabaseAway, match="ConnectionError"):
            await read(notes)
        await demote(standby, "off")
        await until(takes)
    finally:
        await server.close()
