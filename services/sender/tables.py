"""The tables of the sender; `migrations` holds the road to them.

All times are milliseconds since 1970 by the database's clock. No word of a mail is ever here.
"""

from functools import cached_property
from typing import Any

import sqlalchemy as sa

from shared.contracts import EmailDelivered
from shared.storage import dialect
from shared.storage.dialect import MILLISECONDS, Prepared

metadata = sa.MetaData()

# One row for each recipient of each mail, from its first attempt until it is forgotten.
claims = sa.Table(
    "claims",
    metadata,
    sa.Column("email_id", sa.Text, primary_key=True),
    sa.Column("recipient", sa.Text, primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),  # that was claimed last
    sa.Column("token", sa.Text),  # of who claimed it; none when nobody is at it
    sa.Column("lease_until", sa.BigInteger, nullable=False),  # then who claimed it counts as dead
    sa.Column("orphan", sa.Boolean, nullable=False),  # it was taken over from one who died
    sa.Column("settled", sa.Integer, nullable=False),  # the attempt of `event`, 0 before the first
    sa.Column("final", sa.Boolean, nullable=False),  # nothing more will be said than `event`
    sa.Column("kind", sa.Text),  # the type of `event`
    sa.Column("event", sa.Text),  # what came of the last attempt, as it goes over the wire
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Index("claims_created_at", "created_at"),
)

# One row for each rate that an operator has set.
paces = sa.Table(
    "paces",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    # Microseconds: until when what was taken of it would last, sent evenly.
    sa.Column("used_until", sa.BigInteger, nullable=False),
)


PURGE_ROWS = 1000  # a transaction: claims wait for no longer than such a piece takes

_PLACE = ("email_id", "recipient")

Found = sa.Row[*tuple[Any, ...]]


class ClaimStatements:
    """The statements in the words of one database; `now` and `lease` are in milliseconds."""

    def __init__(self, connection: sa.Connection, now: sa.ColumnElement[int], lease: int) -> None:
        self._connection = connection
        self._insert = dialect.insert(connection, claims)
        self._now = now
        self._lease = lease

    @cached_property
    def making(self) -> Prepared:
        """Claim those rows that are new, and no others."""
        table = claims.c
        given = dialect.rows(table.email_id, table.recipient, table.attempt, table.token)
        row = self._made(
            given, lease_until=self._now + self._lease, settled=sa.literal(0), final=sa.false()
        )
        return Prepared(self._connection, row.on_conflict_do_nothing(index_elements=_PLACE))

    def _made(self, given: sa.Subquery, **more: sa.ColumnElement[Any]) -> dialect.Insert:
        """Insert what is given and whatever else a row has."""
        values = {**given.c, "orphan": sa.false(), "created_at": self._now, **more}
        row = sa.select(*values.values()).where(sa.true())  # SQLite asks for the condition
        return self._insert.from_select(list(values), row)

    @cached_property
    def taking(self) -> sa.Executable:
        """Claim a row that is new, or that nobody holds and nobody has settled so far."""
        row = self._insert.values(
            email_id=sa.bindparam("of_email"),
            recipient=sa.bindparam("of_recipient"),
            attempt=sa.bindparam("new_attempt"),
            token=sa.bindparam("of_token"),
            lease_until=self._now + self._lease,
            orphan=False,
            settled=0,
            final=False,
            created_at=self._now,
        )
        old, new = claims.c, row.excluded
        # A claim on an earlier attempt is void: ours is there because that one has ended.
        held = sa.and_(old.token.is_not(None), old.attempt >= new.attempt)
        lives = sa.and_(held, old.lease_until > self._now)
        return row.on_conflict_do_update(
            index_elements=_PLACE,
            set_={
                "attempt": new.attempt,
                "token": new.token,
                "lease_until": new.lease_until,
                "orphan": held,
            },
            where=sa.and_(sa.not_(old.final), old.settled < new.attempt, sa.not_(lives)),
        )

    @cached_property
    def looking(self) -> sa.Executable:
        """See what is known of some mails."""
        table = claims.c
        whose = (table.email_id, table.recipient, table.token, table.orphan)
        mails: sa.BindParameter[str] = sa.bindparam("of_emails", expanding=True)
        return sa.select(*whose, table.settled, table.final, table.kind, table.event).where(
            table.email_id.in_(mails)
        )

    @cached_property
    def settling(self) -> Prepared:
        """Keep outcomes of the holders of claims; a final one is never replaced.

        A sender that has lost its claim keeps nothing but a delivery: the relay has the mail, so no
        other outcome can be true any more. The new holder then finds its own claim gone.

        Not an update from those rows: PostgreSQL would lock in an order of its own choice.
        """
        table = claims.c
        kept = (table.email_id, table.recipient, table.token, table.settled, table.final)
        given = dialect.rows(*kept, table.kind, table.event)
        row = self._made(given, attempt=given.c.settled, lease_until=sa.literal(0))
        old, new = table, row.excluded
        known = {name: new[name] for name in ("settled", "final", "kind", "event")}
        true = new.kind == EmailDelivered.keys[0]
        settle = row.on_conflict_do_update(
            index_elements=_PLACE,
            set_={"token": None, **known},
            where=sa.and_(sa.not_(old.final), sa.or_(old.token == new.token, true)),
        )
        return Prepared(self._connection, settle)

    @cached_property
    def giving_back(self) -> sa.Executable:
        """Let go of the recipients of a claim that are not settled.

        Of those taken over it still holds that nobody knows what the one who died has done.
        """
        token = sa.case((claims.c.orphan, claims.c.token), else_=None)
        return self._claimed.values(token=token, lease_until=0)

    @cached_property
    def renewing(self) -> sa.Executable:
        """Say that the holder of a claim lives."""
        return self._claimed.values(lease_until=self._now + self._lease)

    @cached_property
    def holding(self) -> sa.Executable:
        """Read which recipients of some mails are claimed, and by which claim."""
        mails: sa.BindParameter[str] = sa.bindparam("of_emails", expanding=True)
        return sa.select(claims.c.token).where(
            claims.c.email_id.in_(mails), claims.c.token.is_not(None)
        )

    @property
    def _claimed(self) -> sa.Update:
        return sa.update(claims).where(
            claims.c.email_id == sa.bindparam("of_email"),
            claims.c.token == sa.bindparam("of_token"),
        )

    def forgetting(self, remember: float) -> sa.Executable:
        """Delete some of the rows made more than `remember` seconds ago."""
        place = (claims.c.email_id, claims.c.recipient)
        # As a query of its own: PostgreSQL uses no index for a time that changes from row to row.
        limit = sa.select(self._now - round(remember * MILLISECONDS)).scalar_subquery()
        old = sa.select(*place).where(claims.c.created_at < limit).limit(PURGE_ROWS)
        return sa.delete(claims).where(sa.tuple_(*place).in_(old))
