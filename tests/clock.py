"""Clocks that a test moves."""

from dataclasses import dataclass

import pytest
import sqlalchemy as sa


@dataclass
class Watch:
    """The clock of a process, in seconds from any start."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Read it."""
        return self.now


class Clock:
    """A time that stands still until it is moved, given to a store as the database's."""

    def __init__(self) -> None:
        self.seconds = 1_900_000_000.0

    def __call__(self, connection: sa.Connection) -> sa.ColumnElement[int]:
        """Give the time as a store asks for it: a statement is made once, so not as a value."""
        del connection
        return sa.bindparam(
            "now", unique=True, callable_=lambda: round(self.seconds * 1000), type_=sa.BigInteger
        )


@pytest.fixture
def clock() -> Clock:
    """Give the time of one test."""
    return Clock()
