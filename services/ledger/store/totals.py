"""Reads of the sums over mails: rows of hours, as many for a thousand mails as for ten million."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import sqlalchemy as sa

from services.ledger.changes import COUNTS
from services.ledger.store.reader import clients_of
from services.ledger.store.sql import totals
from shared.storage.database import Database, as_handler_errors

_SUMS = tuple(sa.func.sum(totals.c[name]) for name in COUNTS)


class TotalFilter(NamedTuple):
    """The sums that are asked for: of a client or of all, in hours since 1970, and a dimension."""

    client: str | None
    dimension: str
    value: str
    category: int | None
    first: int  # hours from this one on
    end: int  # and below this one


class TotalReader:
    """Reads the sums of the ledger."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_hour(self, wanted: TotalFilter) -> Sequence[Sequence[int]]:
        """Return a row for each hour that has sums, in order: the hour, and COUNTS.

        Raises Retry when the database is away.
        """
        with as_handler_errors("the ledger"):
            return await self._database.read(partial(_by_hour, wanted=wanted))


def _by_hour(connection: sa.Connection, wanted: TotalFilter) -> Sequence[Sequence[int]]:
    column = totals.c
    clients = clients_of(connection, column.client) if wanted.client is None else [wanted.client]
    query = sa.select(column.hour, *_SUMS).where(
        column.client.in_(clients),
        column.dimension == wanted.dimension,
        column.value == wanted.value,
        column.hour >= wanted.first,
        column.hour < wanted.end,
    )
    if wanted.category is not None:
        query = query.where(column.category == wanted.category)
    rows = connection.execute(query.group_by(column.hour).order_by(column.hour))
    return [tuple(map(int, row)) for row in rows]  # PostgreSQL sums up to a decimal
