"""Events in both databases: counted once, announced at every copy, forgotten in time."""

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.classifier import store as store_module
from services.classifier.catalogue import Catalogue
from services.classifier.evidence import hashed
from services.classifier.record import Totals
from services.classifier.rule import Evidence
from services.classifier.service import MIGRATIONS
from services.classifier.store import EvidenceStore
from services.classifier.tables import changes, mails, metadata, seen
from shared.contracts import Verdict
from shared.errors import Reject, Retry
from shared.storage.database import Database
from tests.classifier.observations import COUNTS, EVIDENCE, deliveries, observation
from tests.clock import Clock
from tests.databases import differences


@pytest.fixture
def store(database: Database, clock: Clock) -> EvidenceStore:
    """Give the store of one test."""
    return EvidenceStore(database, COUNTS, clock)


async def rows(database: Database, *tables: sa.Table) -> list[int]:
    """Tell how many rows tables have."""
    return [
        await database.read(
            lambda connection, each=table: connection.execute(  # type: ignore[misc] # mypy#12557
                sa.select(sa.func.count()).select_from(each)
            ).scalar_one()
        )
        for table in tables
    ]


async def test_the_migrations_make_the_tables(database: Database) -> None:
    """The tables that the store writes to are those that the migrations make."""
    assert await differences(database, metadata) == []


@pytest.mark.postgres
async def test_a_row_has_room_to_change(postgres_url: str, tmp_path: Path) -> None:
    """PostgreSQL keeps the next version of a domain on its page, so that no index changes."""
    options = sa.text("SELECT reloptions FROM pg_class WHERE oid = CAST('domains' AS regclass)")
    async with Database.open("classifier", postgres_url, tmp_path, MIGRATIONS) as database:
        found = await database.read(lambda connection: connection.execute(options).scalar_one())

    assert found == ["fillfactor=70"]


async def test_what_was_known_before_is_kept(database_url: str | None, tmp_path: Path) -> None:
    """Sums, ids and changes of the first version mean the same in the second."""
    old = tmp_path / "migrations"
    old.mkdir()
    shutil.copy(MIGRATIONS / "0001_evidence.py", old)
    async with Database.open("classifier", database_url, tmp_path, old) as database:
        await database.write(_fill_the_first_version)

    async with Database.open("classifier", database_url, tmp_path, MIGRATIONS) as database:
        store, catalogue = EvidenceStore(database, COUNTS), Catalogue(database)
        copy = observation(1, domain="all.example")._replace(key=hashed("event", "e-1"))
        again = await store.count([copy])
        records = await catalogue.page(None, "", 9)

        assert [(change.domain, change.status) for change in again] == [
            ("all.example", Verdict.CATCH_ALL)
        ]
        assert [(each.domain, each.evidence) for each in records] == [
            ("all.example", Evidence(1001, 0)),
            ("no.example", Evidence(2000, 1)),
            ("who.example", Evidence(1000, 0)),
        ]
        assert await catalogue.totals() == Totals(1, 1, 1, 4001, 1)


def _fill_the_first_version(connection: sa.Connection) -> None:
    insert = "INSERT INTO domains VALUES (:domain, :delivered, :bounced, 1000, 2000)"
    for domain, delivered, bounced in (
        ("all.example", 1001, 0),
        ("no.example", 2000, 1),
        ("who.example", 1000, 0),
    ):
        values = {"domain": domain, "delivered": delivered, "bounced": bounced}
        connection.execute(sa.text(insert), values)
    connection.execute(sa.text("INSERT INTO seen VALUES ('e-1', 5000)"))
    connection.execute(
        sa.text("INSERT INTO changes VALUES ('e-1', 'all.example', 'catch-all', 6000)")
    )


async def test_old_rows_are_forgotten(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids, changes and mails leave when they are old enough, piece by piece; the sums stay."""
    monkeypatch.setattr(store_module, "PURGE_ROWS", 2)
    store = EvidenceStore(database, EVIDENCE, clock)
    await store.count(deliveries(5))
    clock.seconds += 60
    kept = await store.purge(60)
    clock.seconds += 1
    await store.count([observation(9)])
    forgotten = await store.purge(60)

    assert kept == 0
    assert forgotten == 5 + 1 + 5
    assert await rows(database, seen, changes, mails) == [1, 0, 1]
    assert (await Catalogue(database).record("a.example")).evidence.delivered == 6


@pytest.mark.postgres
async def test_purging_looks_at_old_rows_alone(postgres_url: str, tmp_path: Path) -> None:
    """PostgreSQL finds what is old by an index, and reads no young row."""
    async with Database.open("classifier", postgres_url, tmp_path, MIGRATIONS) as database:
        plans = await database.write(_plans)

    assert len(plans) == 3
    assert not [plan for plan in plans if "Seq Scan" in plan or "Sort" in plan]


def _plans(connection: sa.Connection) -> list[str]:
    # A small table is read whole, whatever its indexes.
    connection.execute(sa.text("SET LOCAL enable_seqscan = off"))
    return [
        "\n".join(connection.scalars(sa.text(f"EXPLAIN {_said(connection, old)}")))
        for _, old in store_module.OLD
    ]


def _said(connection: sa.Connection, query: sa.Select[tuple[object]]) -> str:
    values = query.limit(10).params(limit=1000)
    return str(values.compile(connection, compile_kwargs={"literal_binds": True}))


async def test_what_cannot_be_kept_is_refused(store: EvidenceStore) -> None:
    """A value beyond the database is the event's fault; a database that is away is nobody's."""
    poison = observation(1)._replace(at=1 << 63)

    with pytest.raises(Reject, match="the evidence cannot hold a value"):
        await store.count([poison])
    assert await store.count(deliveries(1)) == []


async def test_without_its_tables_it_is_tried_again(
    store: EvidenceStore, database: Database
) -> None:
    """Nothing is judged by a database that is not there."""
    await database.write(seen.drop)

    with pytest.raises(Retry, match="the evidence cannot be reached"):
        await store.count(deliveries(1))
