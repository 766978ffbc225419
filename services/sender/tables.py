"""The tables of the sender, as `migrations` makes them, and the statements on its claims.

All times are milliseconds since 1970 by the database's clock. No text of a mail is ever kept.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple, cast

import sqlalchemy as sa

from services.sender.claims import Claim
from shared import contracts
from shared.contracts import EmailDelivered, Outcome, SendEmail
from shared.runtime.sealing import fold
from shared.storage import dialect
from shared.storage.dialect import MILLISECONDS_PER_SECOND, Prepared, chunks

PURGE_ROWS = 1000  # a transaction: claims wait for no longer than that takes
PIECE_ROWS = 20_000  # of a search without an index: other reads wait for no longer
MAX_MAILS = 500  # in one list of a statement: SQLite may be built for no more than 999

metadata = sa.MetaData()

# One row for each recipient of each mail, from its first attempt until it is purged.
claims = sa.Table(
    "claims",
    metadata,
    sa.Column("email_id", sa.Text, primary_key=True),
    sa.Column("recipient", sa.Text, primary_key=True),
    sa.Column("attempt", sa.Integer, nullable=False),  # the last one that was claimed
    sa.Column("token", sa.Text),  # of the claim; NULL without one
    sa.Column("lease_until", sa.BigInteger, nullable=False),  # then its holder counts as dead
    sa.Column("orphan", sa.Boolean, nullable=False),  # it was taken over from a sender that died
    sa.Column("settled", sa.Integer, nullable=False),  # the attempt of `event`, 0 before the first
    sa.Column("final", sa.Boolean, nullable=False),  # no other outcome follows `event`
    sa.Column("kind", sa.Text),  # the type of `event`
    sa.Column("event", sa.Text),  # the outcome of the last attempt, as on the wire
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Index("claims_created_at", "created_at"),
)

# One row for each rate that an operator has set.
paces = sa.Table(
    "paces",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    # Microseconds: the end of the time for which the used part would last, sent evenly.
    sa.Column("used_until", sa.BigInteger, nullable=False),
)

# A copy of the ledger's list of addresses that get no mail. An entry that was removed stays as a
# row, so that an event from before its removal changes nothing.
suppressions = sa.Table(
    "suppressions",
    metadata,
    sa.Column("address_key", sa.Text, primary_key=True),
    sa.Column("origin", sa.Text, primary_key=True),
    sa.Column("client", sa.Text, primary_key=True),  # empty: of all
    sa.Column("list_id", sa.Text, primary_key=True),  # empty: of all
    sa.Column("categories", sa.Integer, nullable=False),  # the sum of their bits
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("removed", sa.Boolean, nullable=False),
    sa.Column("purge_at", sa.BigInteger),  # NULL while it may still count
)
sa.Index(
    "suppressions_purge_at",
    suppressions.c.purge_at,
    sqlite_where=suppressions.c.purge_at.is_not(None),
    postgresql_where=suppressions.c.purge_at.is_not(None),
)

# The mails that their clients have cancelled, whether their commands have come or not.
cancellations = sa.Table(
    "cancellations",
    metadata,
    sa.Column("email_id", sa.Text, primary_key=True),  # as in `claims`
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Index("cancellations_created_at", "created_at"),
)

_KEY = ("email_id", "recipient")
_key_of: Callable[[tuple[Any, ...]], tuple[str, str]] = itemgetter(0, 1)


class OutcomeRow(NamedTuple):
    """An outcome as it is kept."""

    email_id: str
    recipient: str
    token: str
    attempt: int
    final: bool
    kind: str
    event: str

    @classmethod
    def of(cls, claim: Claim, event: Outcome) -> "OutcomeRow":
        """Return the row of an outcome of `claim`."""
        kind, text = event.routing_key, contracts.encode(event).decode()
        mail, token, attempt = claim.email_id, claim.token, claim.attempt
        return cls(mail, event.recipient, token, attempt, event.final, kind, text)


class ClaimChange(NamedTuple):
    """A change of a claim: recipients to take, outcomes to keep, and whether to free the rest.

    `command` is the mail of the recipients to take.
    """

    claim: Claim
    command: SendEmail | None = None
    take: Sequence[str] = ()
    keep: Sequence[OutcomeRow] = ()
    free: bool = False


class ClaimTable:
    """The statements on claims in the dialect of one database, built once: that costs the most.

    `now` and `lease` are in milliseconds.
    """

    def __init__(self, connection: sa.Connection, now: sa.ColumnElement[int], lease: int) -> None:
        self._connection = connection
        self._insert = dialect.insert(connection, claims)
        self._now = now
        self._lease = lease

    def take(self, connection: sa.Connection, changes: Sequence[ClaimChange]) -> Sequence[Claim]:
        """Claim the free recipients; return the claims with what is known of the others."""
        new = [each for each in changes if each.claim.attempt == 1]
        if new and self._insert_all(connection, new):
            made = [replace(each.claim, fresh=tuple(each.take)) for each in new]
            old = [each for each in changes if each.claim.attempt > 1]
            return [*made, *(self._take_each(connection, old) if old else ())]
        return self._take_each(connection, changes)

    def end(self, connection: sa.Connection, changes: Sequence[ClaimChange]) -> Sequence[Claim]:
        """Keep outcomes and free the rest of claims.

        Return the claims that were lost before, with the recipients concerned as `busy`.
        """
        kept = sorted((row for each in changes for row in each.keep), key=_key_of)
        lost: set[OutcomeRow] = set()
        while kept:
            # A statement must not change one row twice.
            once: dict[tuple[str, str], OutcomeRow] = {}
            kept = [row for row in kept if once.setdefault(_key_of(row), row) is not row]
            for rows in chunks(list(once.values())):
                if self._keep.run(connection, rows).rowcount < len(rows):
                    lost |= self._not_kept(connection, rows)
        if freed := [_holder(each.claim) for each in changes if each.free]:
            connection.execute(self._free, freed)
        return [
            replace(each.claim, busy=tuple(row.recipient for row in each.keep if row in lost))
            for each in changes
            if not lost.isdisjoint(each.keep)
        ]

    def renew(self, connection: sa.Connection, held: Mapping[str, str]) -> Counter[str]:
        """Renew claims, mails by token; return for how many recipients each of them is held."""
        rows = [{"of_email": mail, "of_token": token} for token, mail in held.items()]
        connection.execute(self._held.values(lease_until=self._now + self._lease), rows)
        counts: Counter[str] = Counter()
        mails = list(set(held.values()))
        for start in range(0, len(mails), MAX_MAILS):
            some = {"of_emails": mails[start : start + MAX_MAILS]}
            counts.update(connection.execute(self._holders, some).scalars())
        return counts

    def purge(self, connection: sa.Connection, remember: float) -> int:
        """Delete at most PURGE_ROWS rows older than `remember` seconds; return how many."""
        key = (claims.c.email_id, claims.c.recipient)
        # As a query of its own: PostgreSQL uses no index for a time that changes from row to row.
        limit = sa.select(self._now - round(remember * MILLISECONDS_PER_SECOND)).scalar_subquery()
        old = sa.select(*key).where(claims.c.created_at < limit).limit(PURGE_ROWS)
        return connection.execute(sa.delete(claims).where(sa.tuple_(*key).in_(old))).rowcount

    def find_of_address(
        self, connection: sa.Connection, email: str, after: str
    ) -> tuple[Sequence[tuple[str, str]], str | None]:
        """Return the keys of an address's rows in a piece of the table, and where it ends.

        The piece begins after the mail `after`; its end is None at the end of the table.
        """
        mails = sa.select(claims.c.email_id).where(claims.c.email_id > after)
        piece = mails.order_by(claims.c.email_id).offset(PIECE_ROWS).limit(1)
        end = connection.execute(piece).scalar()
        here = [claims.c.email_id > after] + ([claims.c.email_id <= end] if end else [])
        # Databases fold ASCII alone, or as their locale has it. Nearly all letters keep the length.
        alike = sa.func.length(claims.c.recipient) == len(email)
        rows = connection.execute(
            sa.select(claims.c.email_id, claims.c.recipient).where(*here, alike)
        )
        same = fold(email)
        return [(row.email_id, row.recipient) for row in rows if fold(row.recipient) == same], end

    def forget(
        self, connection: sa.Connection, found: Sequence[tuple[str, str]], older: float
    ) -> int:
        """Delete rows with a final outcome that are older than so many seconds; return how many."""
        limit = self._now - round(older * MILLISECONDS_PER_SECOND)
        return sum(
            connection.execute(
                sa.delete(claims).where(
                    claims.c.email_id == email_id,
                    claims.c.recipient == recipient,
                    claims.c.final,
                    claims.c.created_at < limit,
                )
            ).rowcount
            for email_id, recipient in found
        )

    def _insert_all(self, connection: sa.Connection, changes: Sequence[ClaimChange]) -> bool:
        """Claim recipients without a row; return whether all were without one."""
        rows = sorted(
            (each.claim.email_id, recipient, each.claim.attempt, each.claim.token)
            for each in changes
            for recipient in each.take
        )
        return sum(self._make.run(connection, some).rowcount for some in chunks(rows)) == len(rows)

    def _take_each(
        self, connection: sa.Connection, changes: Sequence[ClaimChange]
    ) -> Sequence[Claim]:
        rows = [
            {**_holder(each.claim), "of_recipient": recipient, "new_attempt": each.claim.attempt}
            for each in changes
            for recipient in each.take
        ]
        # In one order at all senders: two that take the same at once could wait for each other.
        rows.sort(key=itemgetter("of_email", "of_recipient"))
        connection.execute(self._take, rows)
        mails = {each.claim.email_id for each in changes}
        known = self._known(connection, mails)
        made = [
            _taken(each.claim, [known[each.claim.email_id, name] for name in each.take])
            for each in changes
        ]
        if busy := [
            {"of_email": each.email_id, "of_recipient": name} for each in made for name in each.busy
        ]:
            connection.execute(self._shorten, busy)
        return made

    def _not_kept(self, connection: sa.Connection, rows: Sequence[OutcomeRow]) -> set[OutcomeRow]:
        """Return the rows whose outcome differs from the one in the database."""
        known = self._known(connection, {row.email_id for row in rows})
        return {
            row
            for row in rows
            if (found := known.get(_key_of(row))) is None
            or (found.settled, found.event) != (row.attempt, row.event)
        }

    def _known(
        self, connection: sa.Connection, mails: set[str]
    ) -> Mapping[tuple[str, str], sa.Row[Any]]:
        found = connection.execute(self._look, {"of_emails": list(mails)}).all()
        return {(row.email_id, row.recipient): row for row in found}

    @cached_property
    def _make(self) -> Prepared:
        """Claim the recipients without a row, and no others."""
        table = claims.c
        given = dialect.rows(table.email_id, table.recipient, table.attempt, table.token)
        row = self._row_of(
            given, lease_until=self._now + self._lease, settled=sa.literal(0), final=sa.false()
        )
        insert = row.on_conflict_do_nothing(index_elements=_KEY)
        return Prepared(self._connection, insert)

    def _row_of(self, given: sa.Subquery, **more: sa.ColumnElement[Any]) -> dialect.Insert:
        """Return an insert of `given` and the other columns."""
        values = {**given.c, "orphan": sa.false(), "created_at": self._now, **more}
        row = sa.select(*values.values()).where(sa.true())  # SQLite needs the condition
        return self._insert.from_select(list(values), row)

    @cached_property
    def _take(self) -> sa.Executable:
        """Claim a recipient that is new, or neither claimed nor settled for this attempt."""
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
        # A claim on an earlier attempt is void: ours exists because that attempt has ended.
        held = sa.and_(old.token.is_not(None), old.attempt >= new.attempt)
        lives = sa.and_(held, old.lease_until > self._now)
        return row.on_conflict_do_update(
            index_elements=_KEY,
            set_={
                "attempt": new.attempt,
                "token": new.token,
                "lease_until": new.lease_until,
                "orphan": held,
            },
            where=sa.and_(sa.not_(old.final), old.settled < new.attempt, sa.not_(lives)),
        )

    @cached_property
    def _shorten(self) -> sa.Executable:
        """Shorten a lease of before the clock was put back; a holder that lives renews it."""
        row, until = claims.c, self._now + self._lease
        key = (
            row.email_id == sa.bindparam("of_email"),
            row.recipient == sa.bindparam("of_recipient"),
        )
        return sa.update(claims).values(lease_until=until).where(*key, row.lease_until > until)

    @cached_property
    def _look(self) -> sa.Executable:
        """Select the rows of some mails."""
        mails: sa.BindParameter[str] = sa.bindparam("of_emails", expanding=True)
        return sa.select(claims).where(claims.c.email_id.in_(mails))

    @cached_property
    def _keep(self) -> Prepared:
        """Keep outcomes of the holders of claims; a final one is never replaced.

        A sender that has lost its claim can only keep a delivery: the relay has the mail, so no
        other outcome can be true any more. The new holder then finds its own claim gone.

        Not an update from those rows: PostgreSQL would lock in an order of its own choice.
        """
        table = claims.c
        kept = (table.email_id, table.recipient, table.token, table.settled, table.final)
        given = dialect.rows(*kept, table.kind, table.event)
        row = self._row_of(given, attempt=given.c.settled, lease_until=sa.literal(0))
        old, new = table, row.excluded
        known = {name: new[name] for name in ("settled", "final", "kind", "event")}
        true = new.kind == EmailDelivered.keys[0]
        upsert = row.on_conflict_do_update(
            index_elements=_KEY,
            set_={"token": None, **known},
            where=sa.and_(sa.not_(old.final), sa.or_(old.token == new.token, true)),
        )
        return Prepared(self._connection, upsert)

    @cached_property
    def _free(self) -> sa.Executable:
        """Free the recipients of a claim that are not settled.

        An orphan stays one: whether the sender that died has sent the mail is still unknown.
        """
        token = sa.case((claims.c.orphan, claims.c.token), else_=None)
        return self._held.values(token=token, lease_until=0)

    @cached_property
    def _holders(self) -> sa.Executable:
        """Select the token of each claimed recipient of some mails."""
        mails: sa.BindParameter[str] = sa.bindparam("of_emails", expanding=True)
        return sa.select(claims.c.token).where(
            claims.c.email_id.in_(mails), claims.c.token.is_not(None)
        )

    @cached_property
    def _held(self) -> sa.Update:
        """Update the recipients of a claim."""
        return sa.update(claims).where(
            claims.c.email_id == sa.bindparam("of_email"),
            claims.c.token == sa.bindparam("of_token"),
        )


def _holder(claim: Claim) -> Mapping[str, Any]:
    return {"of_email": claim.email_id, "of_token": claim.token}


def _taken(claim: Claim, rows: Sequence[sa.Row[Any]]) -> Claim:
    """Return the claim with its own recipients, and what is known of the others."""
    ours = [row for row in rows if row.token == claim.token]
    others = [row for row in rows if row.token != claim.token]
    answered = [row for row in others if row.final or row.settled == claim.attempt]
    busy = [row for row in others if not row.final and row.settled < claim.attempt]
    return replace(
        claim,
        fresh=tuple(row.recipient for row in ours if not row.orphan),
        orphans=tuple(row.recipient for row in ours if row.orphan),
        busy=tuple(row.recipient for row in busy),
        settled=tuple(
            cast("Outcome", contracts.decode(row.kind, row.event.encode())) for row in answered
        ),
    )
