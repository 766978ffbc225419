"""Pure: deliveries that their own late bounces take back."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from services.classifier.evidence import Observation, hashed
from services.classifier.tally import DELIVERED, TAKEN_BACK, Tally
from shared.contracts import Kind


class Known(NamedTuple):
    """All that is known of one mail to one recipient."""

    delivered: int
    refused: int

    @property
    def standing(self) -> int:
        """The deliveries that count: all while no refusal is known, else none."""
        return 0 if self.refused else self.delivered


@dataclass(slots=True)
class Mail:
    """What some observations add to one mail to one recipient, who is at `domain`."""

    domain: str
    delivered: int = 0
    refused: int = 0


def told(observations: Iterable[Observation], fresh: Collection[str]) -> dict[str, Mail]:
    """Add up what is said of each mail, by a hash that names it; each fresh key once."""
    mails: dict[str, Mail] = {}
    left = set(fresh)
    for each in observations:
        if each.mail is None or each.key not in left:
            continue
        left.remove(each.key)
        mail = mails.setdefault(hashed("mail", each.mail), Mail(each.domain))
        if each.said == Kind.DELIVERED:
            mail.delivered += 1
        else:
            mail.refused += 1
    return mails


def take_back(tally: Tally, added: Mail, after: Known) -> None:
    """Correct `tally`, to which `added` has been counted; `after` it that much is known."""
    before = Known(after.delivered - added.delivered, after.refused - added.refused)
    counted = after.standing - before.standing
    total = tally.domains[added.domain]
    # Each delivery is in one of the two sums, so what leaves one of them enters the other.
    total[TAKEN_BACK] += added.delivered - counted
    total[DELIVERED] += counted - added.delivered
