"""What gathers the messages of a batch."""

from shared.contracts import SendEmail
from shared.errors import Reject

BAD = "bad"  # the id of a message that is refused


class Pile(list[SendEmail]):
    """Gathers messages as they are."""

    async def add(self, message: SendEmail) -> None:
        """Take a message in, unless its id is BAD."""
        if message.id == BAD:
            raise Reject("this one never")
        self.append(message)

    async def close(self) -> None:
        """Do nothing more."""

    async def clear(self) -> None:  # type: ignore[override] # of a list, which does it at once
        """Let go of it."""
        del self[:]
