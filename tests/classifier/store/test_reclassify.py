"""Judging domains by another rule."""

from contextlib import suppress

import pytest

from services.classifier.rule import VerdictRule
from services.classifier.store import reclassify
from services.classifier.store.counting import EvidenceStore
from services.classifier.store.reader import DomainReader, DomainTotals
from services.classifier.store.reclassify import Reclassifier
from shared.contracts import Contract, DomainClassified, Verdict
from shared.errors import Unavailable
from shared.storage.database import Database
from tests.classifier.observations import COUNTS, observation

LOOSE = VerdictRule(0)


class Listener:
    """A publisher that fails after so many messages."""

    def __init__(self, takes: int = 1000) -> None:
        self.heard: list[DomainClassified] = []
        self._takes = takes

    async def publish(self, message: Contract) -> None:
        """Publish a message. Raises Unavailable after the last one."""
        if len(self.heard) == self._takes:
            raise Unavailable("no broker")
        assert isinstance(message, DomainClassified)
        self.heard.append(message)


@pytest.fixture
async def filled(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Return a database with five domains of one delivery each, judged in pieces of two."""
    monkeypatch.setattr(reclassify, "MAX_ROWS", 2)
    events = [observation(number, domain=f"d{number}.example") for number in range(5)]
    await EvidenceStore(database, COUNTS).count(events)
    await Reclassifier(database, COUNTS, Listener().publish).run()
    return database


async def test_all_are_judged_anew(filled: Database) -> None:
    """Lists, sums and announcements follow the new rule."""
    listener = Listener()
    await Reclassifier(filled, LOOSE, listener.publish).run()
    page = await DomainReader(filled).page(Verdict.CATCH_ALL, "", 10)

    assert sorted(each.domain for each in listener.heard) == [f"d{n}.example" for n in range(5)]
    assert len(page) == 5
    assert await DomainReader(filled).totals() == DomainTotals(0, 5, 0, 5, 0)


async def test_the_same_rule_changes_nothing(filled: Database) -> None:
    """A restart with the same rule announces nothing."""
    listener = Listener()
    await Reclassifier(filled, COUNTS, listener.publish).run()

    assert listener.heard == []


@pytest.mark.parametrize("takes", range(5))
async def test_an_announcement_is_not_lost(filled: Database, takes: int) -> None:
    """The next run announces the changes that a crash left unannounced, with the same ids."""
    first, second = Listener(takes), Listener()
    with suppress(Unavailable):
        await Reclassifier(filled, LOOSE, first.publish).run()
    await Reclassifier(filled, LOOSE, second.publish).run()
    heard = {each.id: each.domain for each in (*first.heard, *second.heard)}

    assert sorted(heard.values()) == [f"d{number}.example" for number in range(5)]
    assert len(second.heard) <= 5 - takes + 2


async def test_there_and_back(filled: Database) -> None:
    """A return to an earlier rule is a change of its own, with other ids."""
    listeners = [Listener() for _ in range(3)]
    for rule, listener in zip((LOOSE, COUNTS, LOOSE), listeners, strict=True):
        await Reclassifier(filled, rule, listener.publish).run()
    ids = [each.id for listener in listeners for each in listener.heard]

    assert len(set(ids)) == 15
    assert {each.status for each in listeners[1].heard} == {Verdict.UNKNOWN}
