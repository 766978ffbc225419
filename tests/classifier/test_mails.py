"""Deliveries that are taken back."""

import itertools

import pytest

from services.classifier.evidence import Observation, hashed
from services.classifier.mails import Known, take_back, told
from services.classifier.tally import DELIVERED, TAKEN_BACK, Tally
from tests.classifier.observations import observation

DELIVERY = observation(1)
AGAIN = observation(2, mail=1)
LATE = observation(3, "policy", mail=1)


def after(batches: list[list[Observation]]) -> tuple[int, int]:
    """Give the deliveries and those taken back when some batches were counted."""
    known, delivered, taken = Known(0, 0), 0, 0
    for batch in batches:
        tally = Tally.of(batch)
        (mail,) = told(batch, {each.key for each in batch}).values()
        known = Known(known.delivered + mail.delivered, known.refused + mail.refused)
        take_back(tally, mail, known)
        delivered += tally.domains["a.example"][DELIVERED]
        taken += tally.domains["a.example"][TAKEN_BACK]
    return delivered, taken


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
@pytest.mark.parametrize("split", [(1, 2, 3), (1, 3), (2, 3), (3,)], ids=str)
def test_a_late_bounce_takes_deliveries_back(
    order: tuple[int, ...], split: tuple[int, ...]
) -> None:
    """Whichever comes first, and in whatever batches: what was refused was not delivered."""
    events = [(DELIVERY, AGAIN, LATE)[place] for place in order]
    batches = [events[begin:end] for begin, end in itertools.pairwise((0, *split))]

    assert after(batches) == (0, 2)


def test_without_a_bounce_all_stand() -> None:
    """Nothing is taken back from a mail that nobody refused."""
    assert after([[DELIVERY], [AGAIN]]) == (2, 0)


def test_only_what_names_a_mail() -> None:
    """What tells no mail, and copies, have no say."""
    anonymous = observation(4)._replace(mail=None)
    mails = told([DELIVERY, DELIVERY, anonymous, LATE], {"key-1", "key-4"})

    assert list(mails) == [hashed("mail", "mail-1/a.example")]
    assert (mails[hashed("mail", "mail-1/a.example")].delivered, *mails.values())[0] == 1
