"""The tables: made by the migrations as the store writes to them."""

from typing import cast

from services.ledger.store.sql import metadata
from shared.storage.database import Database
from tests.databases import differences


async def test_the_migrations_make_the_tables(database: Database) -> None:
    """The tables that the store writes to are those that the migrations make.

    PostgreSQL also has a table for each part of the history.
    """
    found = cast("list[tuple[str, object]]", await differences(database, metadata))

    parts = [each for each in found if each[0] == "remove_table" and "history_" in str(each[1])]
    assert [each for each in found if each not in parts] == []
