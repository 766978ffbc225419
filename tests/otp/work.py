"""The work of a guess, to compare it with that of another guess."""

import hmac
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import sqlalchemy as sa


@dataclass
class Work:
    """The statements that databases executed, without values, and the number of digests."""

    statements: list[str] = field(default_factory=list)
    hashed: int = 0

    def clear(self) -> None:
        """Forget the work so far."""
        self.statements.clear()
        self.hashed = 0


@contextmanager
def watching() -> Iterator[Work]:
    """Record the work of this process for the length of the block."""
    seen, digest = Work(), hmac.digest

    def counted(key: bytes, message: bytes, method: Any) -> bytes:  # noqa: ANN401 -- as in hmac
        seen.hashed += 1
        return digest(key, message, method)

    def heard(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        seen.statements.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", heard)
    with mock.patch("hmac.digest", counted):
        yield seen
    sa.event.remove(sa.Engine, "before_cursor_execute", heard)
