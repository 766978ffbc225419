"""The tables of the gateway: clients and their keys, Idempotency-Keys, used quotas, removals."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from shared.errors import Reject, Retry, Unavailable

MIGRATIONS = Path(__file__).parent.parent / "migrations"
STORE_SECONDS = 5.0  # for a statement, with the wait for a connection


class UtcDateTime(sa.TypeDecorator[datetime]):
    """A time, which SQLite keeps without its offset: in UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _: sa.Dialect) -> datetime | None:
        """Return the time in UTC."""
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, _: sa.Dialect) -> datetime | None:
        """Return the time with its offset."""
        return value.replace(tzinfo=UTC) if value else None


metadata = sa.MetaData()

clients = sa.Table(
    "clients",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    # The first key, while it is valid, for replicas of the version before, which know no other.
    sa.Column("key_id", sa.String(64), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("senders", sa.JSON(none_as_null=True)),  # From addresses and domains; any if absent
    sa.Column("scopes", sa.JSON(none_as_null=True)),  # all if absent
    sa.Column("networks", sa.JSON(none_as_null=True)),  # any if absent
    sa.Column("expires_at", UtcDateTime),
)

client_keys = sa.Table(
    "client_keys",
    metadata,
    sa.Column(
        "client", sa.String(64), sa.ForeignKey(clients.c.id, ondelete="CASCADE"), primary_key=True
    ),
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime),
    sa.Column("last_used_on", sa.Date),
)

# Clients that were removed, until the event of it is published.
removals = sa.Table(
    "removals",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),  # of the event
    sa.Column("client", sa.String(64), nullable=False),
    sa.Column("registered_at", UtcDateTime, nullable=False),
    sa.Column("removed_at", UtcDateTime, nullable=False),
)

# The table keeps its old name: a rename would fail every request with a key at the replicas of
# the version before, for as long as an upgrade of several replicas takes.
idempotency_keys = sa.Table(
    "uses",
    metadata,
    sa.Column("client", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("fingerprint", sa.LargeBinary, nullable=False),  # of the request's body
    sa.Column("request_id", sa.Text, nullable=False),
    sa.Column("requested_at", sa.BigInteger, nullable=False),  # milliseconds since 1970
    sa.Column("held_until", sa.BigInteger),  # the same, while a request is under way
    sa.Index("uses_requested_at", "requested_at"),
)

quotas = sa.Table(
    "quotas",
    metadata,
    sa.Column("client", sa.Text, primary_key=True),
    sa.Column("used_until", sa.BigInteger, nullable=False),  # microseconds since 1970
)


# One row. Triggers of a SQLite file count the changes of clients and keys in it.
revision = sa.Table("client_revision", metadata, sa.Column("number", sa.BigInteger, nullable=False))


class StoreUnavailable(Unavailable):
    """The database did not answer."""


@contextmanager
def failures() -> Iterator[None]:
    """Raise StoreUnavailable for every failure of the database, and for a TimeoutError."""
    try:
        yield
    except (sa.exc.SQLAlchemyError, OSError, Retry, Reject) as error:
        raise StoreUnavailable(f"the database: {type(error).__name__}") from error


@asynccontextmanager
async def bounded() -> AsyncIterator[None]:
    """Raise StoreUnavailable for every failure of the database, and after STORE_SECONDS."""
    with failures():
        async with asyncio.timeout(STORE_SECONDS):
            yield
