"""Pure: whether a relay that offers PIPELINING copes with it (RFC 2920)."""

LOCK_STEP_SECONDS = 600.0  # for which a relay that could not cope hears one command at a time
STUMBLES = 10  # in a row that are believed of a relay that has coped before


class Pipelining:
    """How a relay has coped with groups of commands, by how many recipients they were for.

    A relay that drops early commands does so always, and one with a small buffer with large groups.
    But a mail of any client may end without a reply too. So a group of a size that the relay has
    coped with before counts as its mistake only many times in a row. Times are in seconds of one
    clock.
    """

    def __init__(self) -> None:
        self._largest = 0  # recipients of a group that it has coped with
        self._in_a_row = 0
        self._too_large = 0
        self._until = 0.0

    def copes(self, recipients: int, now: float) -> bool:
        """Return whether commands for so many may go out in one group."""
        return now >= self._until or recipients < self._too_large

    def coped(self, recipients: int) -> None:
        """Note that there was a reply to each command of a group."""
        self._in_a_row = 0
        self._largest = max(self._largest, recipients)

    def stumbled(self, recipients: int, now: float) -> None:
        """Note that replies to a group were missing, or were those of other commands."""
        self._in_a_row += 1
        if self._in_a_row >= STUMBLES:
            self._largest = 0
        if recipients > self._largest:
            self._too_large, self._until = self._largest + 1, now + LOCK_STEP_SECONDS
