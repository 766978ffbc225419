"""The tables: made and kept by the migrations."""

import shutil
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.classifier.evidence import hashed
from services.classifier.rule import Evidence
from services.classifier.service import MIGRATIONS
from services.classifier.store.counting import EvidenceStore
from services.classifier.store.reader import DomainReader, DomainTotals
from services.classifier.store.sql import metadata
from shared.contracts import Verdict
from shared.storage.database import Database
from tests.classifier.observations import COUNTS, observation
from tests.databases import differences


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
        store, reader = EvidenceStore(database, COUNTS), DomainReader(database)
        copy = observation(1, domain="all.example")._replace(key=hashed("event", "e-1"))
        again = await store.count([copy])
        records = await reader.page(None, "", 9)

        assert [(change.domain, change.status) for change in again] == [
            ("all.example", Verdict.CATCH_ALL)
        ]
        assert [(each.domain, each.evidence) for each in records] == [
            ("all.example", Evidence(1001, 0)),
            ("no.example", Evidence(2000, 1)),
            ("who.example", Evidence(1000, 0)),
        ]
        assert await reader.totals() == DomainTotals(1, 1, 1, 4001, 1)


async def test_a_counted_event_stays_counted(database_url: str | None, tmp_path: Path) -> None:
    """A copy of an event that was counted before its table was renamed counts nothing."""
    old = tmp_path / "migrations"
    old.mkdir()
    for name in ("0001_evidence.py", "0002_batches.py", "0003_room.py"):
        shutil.copy(MIGRATIONS / name, old)
    counted = sa.text("INSERT INTO seen (key, seen_at) VALUES ('key-1', 5000)")
    async with Database.open("classifier", database_url, tmp_path, old) as database:
        await database.write(lambda connection: connection.execute(counted))

    async with Database.open("classifier", database_url, tmp_path, MIGRATIONS) as database:
        store = EvidenceStore(database, COUNTS)
        await store.count([observation(1), observation(2)])

        assert (await DomainReader(database).totals()).delivered == 1
        assert await differences(database, metadata) == []
        assert await store.purge(60) == 1


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
