"""The load of mails, and the mailbox where they arrive."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from ops.load import latencies, mails
from ops.load.door import Request
from ops.load.mailbox import Arrival, Mailbox
from ops.load.mails import Plan
from shared.contracts import SendEmail


class Mail:
    """Mails, each to an address of its own. `clock` gives the seconds since the epoch."""

    name = "mails"
    place = "the mailbox"

    def __init__(self, plan: Plan, mailbox: Mailbox, clock: Callable[[], float]) -> None:
        self.total = plan.mails
        self._plan = plan
        self._mailbox = mailbox
        self._clock = clock
        self._begun: dict[str, float] = {}
        self._sent: set[str] = set()
        self._arrivals: Sequence[Arrival] = ()

    @property
    def done(self) -> int:
        """How many mails were answered."""
        return len(self._sent)

    def items(self) -> Iterator[int]:
        """Give the numbers of the mails."""
        return iter(range(self._plan.mails))

    def request(self, item: int) -> Request:
        """Give the request for a mail."""
        self._begin(item)
        return self._plan.request(item)

    def message(self, item: int) -> SendEmail:
        """Give the command for a mail."""
        self._begin(item)
        return self._plan.command(item)

    def sent(self, item: int) -> None:
        """Note a mail."""
        self._sent.add(self._plan.recipient(item))

    async def arrived(self) -> int:
        """Tell how many mails have arrived."""
        return await self._mailbox.count(self._plan.prefix)

    async def differences(self, unsure: Sequence[int]) -> Sequence[str]:
        """Compare the mailbox with what was sent; it may have one copy of what is `unsure`."""
        del unsure
        self._arrivals = await self._mailbox.arrivals(self._plan)
        copies = Counter(arrival.recipient for arrival in self._arrivals)
        return mails.differences(self._sent, copies)

    def summary(self) -> Sequence[str]:
        """Tell how long the mails were on their way."""
        taken = [each.at - self._begun[each.recipient] for each in self._arrivals]
        return [f"delivered after  {latencies.told(taken)}"]

    def _begin(self, item: int) -> None:
        self._begun.setdefault(self._plan.recipient(item), self._clock())
