"""Pure: which senders a relay takes, so that its refusal of one is not held against all others."""

from collections.abc import Hashable

MAX_SENDERS = 5000  # of one relay; of more those are forgotten that were noted longest ago
WITNESSES = 2  # senders, taken before and now refused, that make a relay suspect
REFUSALS = 2  # in a row, after which a sender's mail goes to other relays first
DECLINED_SECONDS = 300.0  # until the relay has its share of that sender's mail again


class Senders:
    """The senders that one relay has taken at MAIL, and those that it has refused since.

    A refusal at MAIL concerns one mail (RFC 5321 4.2.1), and anybody can make addresses up that a
    relay refuses. So it counts against the relay only if the relay took that sender before, as
    it took others that it now refuses too, and if it has taken nobody since. A sender is whatever
    MAIL depends on; times are in seconds of one clock.
    """

    def __init__(self) -> None:
        self._taken: dict[Hashable, None] = {}  # the latest last
        self._witnesses: dict[Hashable, float] = {}  # taken before, refused since then
        self._declined: dict[Hashable, tuple[int, float]] = {}  # how often in a row, and when last

    def taken(self, sender: Hashable, begun: float) -> None:
        """Note that MAIL was accepted in an attempt that began at `begun`.

        A relay that takes anybody after it has refused a sender means that sender alone.
        """
        if self._witnesses:
            for each in [each for each, at in self._witnesses.items() if at <= begun]:
                del self._witnesses[each]
                self._taken.pop(each, None)
        if self._declined:
            self._declined.pop(sender, None)
        self._taken.pop(sender, None)
        self._taken[sender] = None
        _shorten(self._taken)

    def refused(self, sender: Hashable, now: float) -> bool:
        """Note that MAIL was not accepted; return whether that speaks against the relay."""
        times, _ = self._declined.pop(sender, (0, now))
        self._declined[sender] = times + 1, now
        _shorten(self._declined)
        if sender not in self._taken:
            return False
        self._witnesses.setdefault(sender, now)
        return self.suspicious

    @property
    def suspicious(self) -> bool:
        """Whether the relay refuses senders that it took before, and has taken nobody since."""
        return len(self._witnesses) >= max(1, min(WITNESSES, len(self._taken)))

    def suspects(self, sender: Hashable) -> bool:
        """Return whether the relay, not the sender, may be the cause of the sender's refusal."""
        return sender in self._taken or self.suspicious

    def declines(self, sender: Hashable, now: float) -> bool:
        """Return whether other relays are to be asked first for this sender."""
        times, last = self._declined.get(sender, (0, now))
        return times >= REFUSALS and now < last + DECLINED_SECONDS


def _shorten(senders: dict[Hashable, None] | dict[Hashable, tuple[int, float]]) -> None:
    if len(senders) > MAX_SENDERS:
        del senders[next(iter(senders))]
