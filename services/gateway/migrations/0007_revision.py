"""Make the number that changes with the clients and their keys, and with nothing else.

SQLite's own number changes with each commit, and Idempotency-Keys are committed all the time.
Triggers count, so that the commits of a process of the version before are counted too.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_TABLES = ("clients", "client_keys")
_EVENTS = ("INSERT", "UPDATE", "DELETE")
_COUNT = "BEGIN UPDATE client_revision SET number = number + 1; END"


def upgrade() -> None:
    """Create it. On a server it stands still: asking for it costs as much as reading a client."""
    table = op.create_table("client_revision", sa.Column("number", sa.BigInteger, nullable=False))
    op.bulk_insert(table, [{"number": 1}])
    if op.get_bind().dialect.name != "sqlite":
        return
    for name in _TABLES:
        for event in _EVENTS:
            op.execute(f"CREATE TRIGGER {name}_{event.lower()} AFTER {event} ON {name} {_COUNT}")
