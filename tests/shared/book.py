"""A handler of batches that keeps a record of them."""

import asyncio
from collections.abc import Sequence

from shared.contracts import Contract, SendEmail
from tests.shared.messages import fact


class Book:
    """A handler that keeps the ids of each batch, and fails as a test says."""

    def __init__(self, *failures: BaseException) -> None:
        self._failures = list(failures)
        self.calls: list[list[str]] = []
        self.called = asyncio.Event()

    async def __call__(self, commands: Sequence[SendEmail]) -> Sequence[Contract]:
        """Report each command as handled, unless there is a failure left."""
        names = [each.id for each in commands]
        self.calls.append(names)
        self.called.set()
        if self._failures:
            raise self._failures.pop(0)
        return [fact(name) for name in names]

    @property
    def names(self) -> list[str]:
        """All ids, in the order in which they were handled."""
        return [name for call in self.calls for name in call]
