"""One transaction of this service: its time, its rows, and its turn among the other replicas."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from services.otp.challenge import Challenge, CodeScope
from services.otp.statements import ChallengeStatements
from shared.storage import dialect
from shared.storage.dialect import Prepared

Cell = str | int | bool | None
Row = sa.Row[*tuple[Any, ...]]

_LOCKING = sa.select(sa.func.pg_advisory_xact_lock(sa.bindparam("key", type_=sa.BigInteger)))


class OtpTransaction:
    """Reads and writes by the statements `say`."""

    def __init__(self, connection: sa.Connection, say: ChallengeStatements) -> None:
        self._connection = connection
        self.say = say

    def take_turns(self, names: Iterable[str]) -> None:
        """Let nobody else in who takes turns by one of these names, until the end.

        What is read after this is what all those before have committed. Only one at a time writes
        to a SQLite file anyway.
        """
        if self._connection.dialect.name == "postgresql":
            # In one order everywhere, or two could wait for each other.
            keys = sorted({*map(_key, names)})
            self.each(_LOCKING, [{"key": key} for key in keys])

    @cached_property
    def now(self) -> int:
        """The database's time at the first look, in milliseconds since 1970."""
        found: int = self.say.now.run(self._connection).scalar_one()
        return found

    def rows(
        self, statement: Prepared, rows: Iterable[Sequence[Cell]], **values: object
    ) -> Sequence[Row]:
        """Run a statement with some rows, perhaps none, and give what it finds or returns."""
        found: list[Row] = []
        for chunk in dialect.chunks(list(rows)):
            result = statement.run(self._connection, chunk, **values)
            found += result.all() if result.returns_rows else ()
        return found

    def each(self, statement: sa.Executable, values: Sequence[Mapping[str, object]]) -> None:
        """Run a statement for each of `values`, perhaps none."""
        if values:
            self._connection.execute(statement, values)

    def change(self, statement: sa.Executable) -> int:
        """Run a statement and tell how many rows it has changed."""
        return self._connection.execute(statement).rowcount

    def standing(self, recipients: Iterable[str]) -> Sequence[Challenge]:
        """Return the challenges of some recipients that nothing has ended so far."""
        found = self.rows(self.say.standing, [(each,) for each in {*recipients}])
        # Where there is none, its row is read all the same, so that it takes its time.
        read = [(row.id, _challenge(row)) for row in found]
        return [challenge for id_, challenge in read if id_ is not None]

    def named(self, ids: Iterable[str | None]) -> Mapping[str, Challenge]:
        """Give challenges by their ids, dead or alive."""
        given = {each for each in ids if each is not None}
        found = self.rows(self.say.named, [(each,) for each in given])
        return {each.id: each for each in map(_challenge, found)}


def _key(name: str) -> int:
    """Give a lock's number; two names with one number wait for each other and do no harm."""
    digest = hashlib.blake2b(f"otp/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _challenge(row: Row) -> Challenge:
    id_, client, purpose, email, nonce, key_id, digits, created_at, expires_at, mailed_at, *_ = row
    scope = CodeScope(client, purpose, email)
    return Challenge(id_, scope, nonce, key_id, digits, created_at, expires_at, mailed_at)
