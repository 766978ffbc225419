"""Challenges in the database: one alive for each holder, guesses counted, used up once."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from services.otp.challenge import Challenge, Draft, Holder, Rules
from services.otp.tables import challenges, commands, standing
from shared import dialect
from shared.database import Database
from shared.dialect import MILLISECONDS, Clock

# A dead challenge still answers who asks again: a command may come back for 14 hours
# (shared.retry). With the purge's own interval it is gone within a day.
KEEP_SECONDS = 20 * 3600

_Row = sa.Row[*tuple[Any, ...]]


class ChallengeStore:
    """The challenges of this deployment; `key_ids` names the keys that codes can be derived by."""

    def __init__(
        self,
        database: Database,
        rules: Rules,
        key_ids: Sequence[str],
        clock: Clock = dialect.now,
    ) -> None:
        self._database = database
        self._rules = rules
        self._key_ids = key_ids
        self._clock = clock

    async def issue(self, command_id: str, draft: Draft) -> Challenge:
        """Give the challenge that a command asks for: the holder's own if alive, else `draft`.

        The same command gets the same challenge again, even a dead one.
        """
        return await self._database.write(
            lambda connection: self._issue(connection, command_id, draft)
        )

    async def guess(self, holder: Holder, request_id: str) -> Challenge | None:
        """Count one guess and give the challenge that it may be compared with, if there is any.

        It is committed before it is compared: no crash gives a guess back. What this very request
        has used up already is given again and counts nothing.
        """
        return await self._database.write(
            lambda connection: self._guess(connection, holder, request_id)
        )

    async def use(self, challenge_id: str, request_id: str) -> bool:
        """Use a challenge up; True for the one request that does, however often it asks."""
        return await self._database.write(
            lambda connection: self._use(connection, challenge_id, request_id)
        )

    async def purge(self) -> int:
        """Delete what has been dead for KEEP_SECONDS, and tell how much that was."""
        return await self._database.write(self._purge)

    def _issue(self, connection: sa.Connection, command_id: str, draft: Draft) -> Challenge:
        row = self._issued(connection, command_id)
        if row is None:
            self._replace_dead(connection, draft.holder)
            row = self._stand(connection, draft)
            self._remember(connection, command_id, row.id)
        return _challenge(row)

    def _guess(
        self, connection: sa.Connection, holder: Holder, request_id: str
    ) -> Challenge | None:
        row = (
            self._used_by(connection, holder, request_id)
            or self._counted(connection, holder)
            # A copy of this request may have used it up between the two statements.
            or self._used_by(connection, holder, request_id)
        )
        return None if row is None else _challenge(row)

    def _use(self, connection: sa.Connection, challenge_id: str, request_id: str) -> bool:
        table, now = challenges, self._clock(connection)
        statement = (
            sa.update(table)
            .where(table.c.id == challenge_id, standing, table.c.expires_at > now)
            .values(used_at=now, used_by=request_id)
        )
        connection.execute(statement)
        user = sa.select(table.c.used_by).where(table.c.id == challenge_id)
        return connection.scalar(user) == request_id

    def _purge(self, connection: sa.Connection) -> int:
        table = challenges
        limit = self._clock(connection) - KEEP_SECONDS * MILLISECONDS
        deaths = (table.c.used_at, table.c.replaced_at, table.c.expires_at)
        dead = sa.or_(*(death < limit for death in deaths))
        return connection.execute(sa.delete(table).where(dead)).rowcount

    def _issued(self, connection: sa.Connection, command_id: str) -> _Row | None:
        statement = (
            sa.select(challenges)
            .join(commands)
            .where(commands.c.id == command_id, challenges.c.key_id.in_(self._key_ids))
        )
        return connection.execute(statement).first()

    def _replace_dead(self, connection: sa.Connection, holder: Holder) -> None:
        table, now = challenges, self._clock(connection)
        dead = sa.or_(
            table.c.expires_at <= now,
            table.c.tries >= self._rules.tries,
            table.c.key_id.not_in(self._key_ids),
        )
        statement = sa.update(table).where(_of(holder), standing, dead).values(replaced_at=now)
        connection.execute(statement)

    def _stand(self, connection: sa.Connection, draft: Draft) -> _Row:
        """Insert the draft, or give what stands in its place, in one statement: no race."""
        now = self._clock(connection)
        statement = dialect.insert(connection, challenges).values(
            id=draft.id,
            client=draft.holder.client,
            email=draft.holder.email,
            nonce=draft.nonce,
            key_id=draft.key_id,
            digits=self._rules.digits,
            tries=0,
            created_at=now,
            expires_at=now + round(self._rules.lifetime * MILLISECONDS),
        )
        # An update of nothing, since RETURNING has no row after DO NOTHING.
        statement = statement.on_conflict_do_update(
            index_elements=["client", "email"],
            index_where=standing,
            set_={"tries": challenges.c.tries},
        )
        return connection.execute(statement.returning(*challenges.c)).one()

    def _remember(self, connection: sa.Connection, command_id: str, challenge_id: str) -> None:
        statement = dialect.insert(connection, commands)
        statement = statement.values(id=command_id, challenge_id=challenge_id)
        statement = statement.on_conflict_do_update(
            index_elements=["id"], set_={"challenge_id": challenge_id}
        )
        connection.execute(statement)

    def _used_by(self, connection: sa.Connection, holder: Holder, request_id: str) -> _Row | None:
        statement = sa.select(challenges).where(_of(holder), challenges.c.used_by == request_id)
        return connection.execute(statement).first()

    def _counted(self, connection: sa.Connection, holder: Holder) -> _Row | None:
        table = challenges
        statement = (
            sa.update(table)
            .where(
                _of(holder),
                standing,
                table.c.expires_at > self._clock(connection),
                table.c.tries < self._rules.tries,
            )
            .values(tries=table.c.tries + 1)
            .returning(*table.c)
        )
        return connection.execute(statement).first()


def _of(holder: Holder) -> sa.ColumnElement[bool]:
    return sa.and_(challenges.c.client == holder.client, challenges.c.email == holder.email)


def _challenge(row: _Row) -> Challenge:
    return Challenge(
        id=row.id,
        holder=Holder(row.client, row.email),
        nonce=row.nonce,
        key_id=row.key_id,
        digits=row.digits,
        expires_at=datetime.fromtimestamp(row.expires_at / MILLISECONDS, UTC),
    )
