"""What a run needs to know of its kind of load."""

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

from ops.load.door import Request
from shared.contracts import Contract

T = TypeVar("T")


class Load(Protocol[T]):
    """Items to be sent, and the place where all of them have to be seen in the end."""

    @property
    def name(self) -> str:
        """What is counted, in the plural."""

    @property
    def place(self) -> str:
        """Where it arrives."""

    @property
    def total(self) -> int:
        """How many are to be sent."""

    @property
    def done(self) -> int:
        """How many were answered."""

    def items(self) -> Iterator[T]:
        """Give what is sent, one item a request or message."""

    def request(self, item: T) -> Request:
        """Give an item as a request; asked again it must be the same thing."""

    def message(self, item: T) -> Contract:
        """Give an item as a message; published again it must be the same thing."""

    def sent(self, item: T) -> None:
        """Note that an item was answered."""

    async def arrived(self) -> int:
        """Tell how many things have arrived. Raises what `Door.ask` does."""

    async def differences(self, unsure: Sequence[T]) -> Sequence[str]:
        """Tell what is not there once, a line each. Raises what `Door.ask` does."""

    def summary(self) -> Sequence[str]:
        """Tell what else was seen, a line each."""
