"""What can be read."""

from datetime import timedelta

from services.classifier.catalogue import Catalogue
from services.classifier.record import Record, Totals
from services.classifier.store import EvidenceStore
from shared.contracts import Verdict
from shared.contracts.fields import END_OF_TIME, EPOCH
from shared.storage.database import Database
from tests.classifier.observations import COUNTS, observation


async def fill(database: Database, count: int) -> None:
    """Let each second of so many domains have a bounce."""
    await EvidenceStore(database, COUNTS).count(
        [
            observation(number, "bounced" if number % 2 else "delivered", f"d{number}.example")
            for number in range(count)
        ]
    )


async def test_never_seen(database: Database) -> None:
    """Nothing known is an empty record, and no domains are no error."""
    catalogue = Catalogue(database)

    assert await catalogue.record("never.example") == Record("never.example")
    assert await catalogue.page(None, "", 10) == []
    assert await catalogue.totals() == Totals(0, 0, 0, 0, 0)


async def test_pages(database: Database) -> None:
    """Going on after the last one of each page gives each domain once."""
    await fill(database, 7)
    catalogue = Catalogue(database)
    seen: list[str] = []
    while page := await catalogue.page(None, seen[-1] if seen else "", 3):
        seen += [each.domain for each in page]

    assert seen == [f"d{number}.example" for number in range(7)]


async def test_pages_of_one_status(database: Database) -> None:
    """A status is looked for by its index, in the same order."""
    await fill(database, 7)
    page = await Catalogue(database).page(Verdict.NOT_CATCH_ALL, "d1.example", 10)

    assert [each.domain for each in page] == ["d3.example", "d5.example"]


async def test_refusals_are_shown(database: Database) -> None:
    """What is no evidence is told by its class, for each domain of a page."""
    await EvidenceStore(database, COUNTS).count(
        [
            *(observation(number, "policy") for number in range(3)),
            observation(4, "mailbox_full"),
            observation(5, "policy", "b.example"),
            observation(6, domain="c.example"),
        ]
    )
    page = await Catalogue(database).page(None, "", 10)

    assert [each.refusals for each in page] == [
        {"mailbox_full": 1, "policy": 3},
        {"policy": 1},
        {},
    ]


async def test_times_out_of_range_are_shown_as_the_nearest(database: Database) -> None:
    """A time that an older release kept, of the year 1 or 292 million, hides no domain."""
    for number, at in enumerate((-62_135_596_800_000, (1 << 63) - 1)):
        await EvidenceStore(database, COUNTS).count([observation(number)._replace(at=at)])

    record = await Catalogue(database).record("a.example")

    assert (record.first_event_at, record.last_event_at) == (
        EPOCH,
        END_OF_TIME - timedelta(milliseconds=1),
    )
