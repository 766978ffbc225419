"""A delivery tag without a broker: it records what is done with it."""

from shared.errors import Unavailable


class RecordingTag:
    """The tag of a delivery by a channel that a test may declare gone."""

    def __init__(self) -> None:
        self.void = False
        self.settled: list[str] = []

    def ack(self) -> None:
        """Record an acknowledgement, while there is a channel."""
        self._settle("ack")

    def requeue(self) -> None:
        """Record a return to the queue, while there is a channel."""
        self._settle("requeue")

    def _settle(self, how: str) -> None:
        if self.void:
            raise Unavailable("gone")
        self.settled.append(how)
