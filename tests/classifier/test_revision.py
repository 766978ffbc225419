"""Another rule for what was judged already."""

from contextlib import suppress

import pytest

from services.classifier import revision as revision_module
from services.classifier.catalogue import Catalogue
from services.classifier.record import Totals
from services.classifier.revision import Revision
from services.classifier.rule import Rule
from services.classifier.store import EvidenceStore
from shared.contracts import Contract, DomainClassified, Verdict
from shared.errors import Unavailable
from shared.storage.database import Database
from tests.classifier.observations import COUNTS, observation

LOOSE = Rule(0)


class Listener:
    """Takes what is published, or does not."""

    def __init__(self, takes: int = 1000) -> None:
        self.heard: list[DomainClassified] = []
        self._takes = takes

    async def publish(self, message: Contract) -> None:
        """Take a message. Raises Unavailable when it will take no more."""
        if len(self.heard) == self._takes:
            raise Unavailable("no broker")
        assert isinstance(message, DomainClassified)
        self.heard.append(message)


@pytest.fixture
async def filled(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Give a database with five domains of one delivery each, judged by pieces of two."""
    monkeypatch.setattr(revision_module, "MAX_ROWS", 2)
    events = [observation(number, domain=f"d{number}.example") for number in range(5)]
    await EvidenceStore(database, COUNTS).count(events)
    await Revision(database, COUNTS, Listener().publish).run()
    return database


async def test_all_are_judged_anew(filled: Database) -> None:
    """Lists, sums and listeners follow the rule that is set now."""
    listener = Listener()
    await Revision(filled, LOOSE, listener.publish).run()
    page = await Catalogue(filled).page(Verdict.CATCH_ALL, "", 10)

    assert sorted(each.domain for each in listener.heard) == [f"d{n}.example" for n in range(5)]
    assert len(page) == 5
    assert await Catalogue(filled).totals() == Totals(0, 5, 0, 5, 0)


async def test_the_same_rule_changes_nothing(filled: Database) -> None:
    """A restart with the same settings looks at no domain."""
    listener = Listener()
    await Revision(filled, COUNTS, listener.publish).run()

    assert listener.heard == []


@pytest.mark.parametrize("takes", range(5))
async def test_an_announcement_is_not_lost(filled: Database, takes: int) -> None:
    """Who dies between a commit and its announcements announces again, with the same ids."""
    first, second = Listener(takes), Listener()
    with suppress(Unavailable):
        await Revision(filled, LOOSE, first.publish).run()
    await Revision(filled, LOOSE, second.publish).run()
    heard = {each.id: each.domain for each in (*first.heard, *second.heard)}

    assert sorted(heard.values()) == [f"d{number}.example" for number in range(5)]
    assert len(second.heard) <= 5 - takes + 2


async def test_there_and_back(filled: Database) -> None:
    """A rule that comes again is a change of its own, told by other ids."""
    listeners = [Listener() for _ in range(3)]
    for rule, listener in zip((LOOSE, COUNTS, LOOSE), listeners, strict=True):
        await Revision(filled, rule, listener.publish).run()
    ids = [each.id for listener in listeners for each in listener.heard]

    assert len(set(ids)) == 15
    assert {each.status for each in listeners[1].heard} == {Verdict.UNKNOWN}
