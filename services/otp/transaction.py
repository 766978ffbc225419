"""One transaction of this service: its time, its rows, and its turn among the other replicas."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import sqlalchemy as sa

from services.otp.challenge import Challenge, Holder
from services.otp.statements import Row, Statements

_LOCKING = sa.select(sa.func.pg_advisory_xact_lock(sa.bindparam("key", type_=sa.BigInteger)))


class Transaction:
    """Reads and writes by the statements `say`."""

    def __init__(self, connection: sa.Connection, say: Statements) -> None:
        self._connection = connection
        self.say = say

    def take_turns(self, names: Iterable[str]) -> None:
        """Let nobody else in who takes turns by one of these names, until the end.

        What is read after this is what all those before have committed. Only one at a time writes
        to a SQLite file anyway.
        """
        if self._connection.dialect.name == "postgresql":
            # In one order everywhere, or two could wait for each other.
            self.each(_LOCKING, [{"key": key} for key in sorted({*map(_key, names)})])

    @cached_property
    def now(self) -> int:
        """The database's time at the first look, in milliseconds since 1970."""
        return self._connection.execute(self.say.now).scalar_one()

    def rows(self, statement: sa.Executable, **values: object) -> Sequence[Row]:
        """Give what a statement finds."""
        return self._connection.execute(statement, values).all()

    def each(self, statement: sa.Executable, values: Sequence[Mapping[str, object]]) -> None:
        """Run a statement for each of `values`, perhaps none."""
        if values:
            self._connection.execute(statement, values)

    def change(self, statement: sa.Executable) -> int:
        """Run a statement and tell how many rows it has changed."""
        return self._connection.execute(statement).rowcount

    def challenges(self, statement: sa.Executable, **values: object) -> Sequence[Challenge]:
        """Give the challenges that a statement finds."""
        return [_challenge(row) for row in self.rows(statement, **values)]

    def named(self, ids: Iterable[str | None]) -> Mapping[str, Challenge]:
        """Give some challenges by their ids; those whose key is not here are missing."""
        given = {each for each in ids if each is not None}
        found = self.challenges(self.say.named, ids=list(given)) if given else ()
        return {each.id: each for each in found}


def _key(name: str) -> int:
    """Give a lock's number; two names with one number wait for each other and do no harm."""
    digest = hashlib.blake2b(f"otp/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _challenge(row: Row) -> Challenge:
    id_, client, purpose, email, nonce, key_id, digits, created_at, expires_at, mailed_at, *_ = row
    holder = Holder(client, purpose, email)
    return Challenge(id_, holder, nonce, key_id, digits, created_at, expires_at, mailed_at)
