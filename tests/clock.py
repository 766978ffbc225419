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
    """A database's time that stands still until a test moves it."""

    def __init__(self) -> None:
        self.seconds = 1_900_000_000.0

    def __call__(self, connection: sa.Connection) -> sa.ColumnElement[int]:
        """Return the time as SQL: a statement is compiled once, so not as a value."""
        del connection
        return sa.bindparam(
            "now", unique=True, callable_=lambda: round(self.seconds * 1000), type_=sa.BigInteger
        )


@pytest.fixture
def clock() -> Clock:
    """Return the time of one test."""
    return Clock()
