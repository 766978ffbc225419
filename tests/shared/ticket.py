"""A receipt without a broker: it notes what is done with it."""

from shared.errors import Unavailable


class Ticket:
    """A receipt on a channel that a test may say is gone; `said` is each end with `multiple`."""

    def __init__(self) -> None:
        self.void = False
        self.said: list[tuple[str, bool]] = []

    def ack(self, *, multiple: bool = False) -> None:
        """Note it, while there is a channel."""
        self._say("ack", multiple=multiple)

    def requeue(self, *, multiple: bool = False) -> None:
        """Note it, while there is a channel."""
        self._say("requeue", multiple=multiple)

    def _say(self, what: str, *, multiple: bool) -> None:
        if self.void:
            raise Unavailable("gone")
        self.said.append((what, multiple))
