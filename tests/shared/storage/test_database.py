"""One store on two databases: opening, migrating, transactions."""

import asyncio
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa
import structlog
from sqlalchemy.ext.asyncio import create_async_engine

from ops import ports
from shared.errors import Reject, Retry
from shared.storage import database as module
from shared.storage import dialect
from shared.storage.database import Database, HandlerDatabase, as_handler_errors
from tests.databases import Opener
from tests.processes import started
from tests.proxy import Proxy
from tests.waiting import PATIENCE_SECONDS, until

NOTES = sa.Table("notes", sa.MetaData(), sa.Column("text", sa.Text, primary_key=True))

FIRST = """
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table("notes", sa.Column("text", sa.Text, primary_key=True))
"""

SECOND = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.add_column("notes", sa.Column("colour", sa.Text))
"""

REPLICA = """
import asyncio, sys
from pathlib import Path
from shared.storage.database import Database

async def main(url, folder):
    async with Database.open("notes", url or None, folder, folder / "migrations") as database:
        assert await database.ready()

asyncio.run(main(sys.argv[1], Path(sys.argv[2])))
"""


@pytest.fixture
def migrations(tmp_path: Path) -> Path:
    """Write the migrations of a service that keeps notes."""
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "0001_notes.py").write_text(FIRST)
    return folder


@pytest.fixture
async def database(open_database: Opener, migrations: Path) -> Database:
    """Open the notes of one test."""
    return await open_database("notes", migrations)


async def write(database: Database, *notes: str) -> None:
    """Write notes in a transaction of their own."""
    rows = [{"text": note} for note in notes]
    await database.write(lambda connection: connection.execute(sa.insert(NOTES), rows))


async def read(database: Database) -> list[str]:
    """Read all notes."""
    ordered = sa.select(NOTES.c.text).order_by(NOTES.c.text)
    return await database.read(lambda connection: list(connection.scalars(ordered)))


async def test_what_is_written_is_read(database: Database) -> None:
    """A transaction is committed when its caller goes on."""
    await write(database, "a", "b")

    assert await read(database) == ["a", "b"]


async def test_a_failed_work_writes_nothing(database: Database) -> None:
    """A transaction whose body raises is rolled back, and the next one works."""
    with pytest.raises(sa.exc.IntegrityError):
        await write(database, "a", "a")
    await write(database, "b")

    assert await read(database) == ["b"]


@pytest.mark.parametrize("error", [LookupError("none"), StopIteration()])
async def test_whatever_a_work_raises(database: Database, error: Exception) -> None:
    """Any exception reaches the caller; one that no coroutine may raise does so as another."""

    def fail(statement: sa.Executable, connection: sa.Connection) -> None:
        connection.execute(statement)
        raise error

    for run, statement in (
        (database.write, sa.insert(NOTES).values(text="half")),
        (database.read, sa.select(NOTES)),
    ):
        with pytest.raises((LookupError, RuntimeError)):
            await run(partial(fail, statement))
    await write(database, "whole")

    assert await read(database) == ["whole"]


async def test_neighbours_of_a_failed_work(database: Database) -> None:
    """A transaction that raises does not fail others that run at the same time."""
    await write(database, "05")
    done = await asyncio.gather(
        *(write(database, f"{number:02}") for number in range(10)), return_exceptions=True
    )

    assert [number for number, error in enumerate(done) if error] == [5]
    assert isinstance(done[5], sa.exc.IntegrityError)
    assert len(await read(database)) == 10


async def test_a_look_sees_what_is_committed(database: Database) -> None:
    """Each one anew, also after one that failed; and it writes nothing."""
    await write(database, "one")
    with pytest.raises(ZeroDivisionError):
        await database.read_inline(lambda _: 1 / 0)
    with pytest.raises(sa.exc.DBAPIError):
        await database.read_inline(
            lambda connection: connection.execute(sa.insert(NOTES).values(text="x"))
        )
    await write(database, "two")
    found = await database.read_inline(
        lambda connection: connection.scalars(sa.select(NOTES)).all()
    )

    assert sorted(found) == ["one", "two"]


async def test_a_glance_sees_each_commit(open_database: Opener, migrations: Path) -> None:
    """A number in a file is read as the last commit left it, whoever made it; a server has none."""
    ours, theirs = [await open_database("notes", migrations) for _ in range(2)]
    count = "SELECT count(*) FROM notes"
    seen = [ours.glance(count)]
    for writer in (ours, theirs):
        await write(writer, f"note {len(seen)}")
        seen.append(ours.glance(count))

    assert seen in ([0, 1, 2], [None] * 3)
    assert ours.glance("SELECT number FROM nowhere") is None


async def test_no_write_in_a_read(database: Database) -> None:
    """A reading transaction cannot change anything."""
    with pytest.raises(sa.exc.DBAPIError, match=r"(?i)read.?only"):
        await database.read(lambda connection: connection.execute(sa.delete(NOTES)))
    await write(database, "a")

    assert await read(database) == ["a"]


async def test_a_cancellation_at_any_moment_is_harmless(database: Database) -> None:
    """After a cancellation a transaction is committed whole or not at all."""
    for turns in range(30):
        task = asyncio.create_task(write(database, f"{turns:02} a", f"{turns:02} b"))
        for _ in range(turns):
            await asyncio.sleep(0)  # gives the task its next turn, and no time passes
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await write(database, "end")

    notes = await read(database)
    assert [note[:2] for note in notes if note.endswith("a")] == [
        note[:2] for note in notes if note.endswith("b")
    ]
    assert "end" in notes


async def test_writers_do_not_disturb_each_other(open_database: Opener, migrations: Path) -> None:
    """Many writers of two replicas at once all commit."""
    both = [await open_database("notes", migrations) for _ in range(2)]
    await asyncio.gather(*(write(both[number % 2], f"{number:02}") for number in range(40)))

    assert len(await read(both[0])) == 40


@pytest.mark.postgres
async def test_a_reader_does_not_wait_for_a_writer(
    postgres_url: str, tmp_path: Path, migrations: Path
) -> None:
    """A read beside an open transaction sees all that was committed before it."""
    settings = {"server_settings": {"search_path": "notes"}}
    somebody = create_async_engine(postgres_url, connect_args=settings, poolclass=sa.NullPool)
    async with Database.open("notes", postgres_url, tmp_path, migrations) as database:
        await write(database, "old")
        async with somebody.begin() as connection, asyncio.timeout(PATIENCE_SECONDS):
            await connection.execute(sa.insert(NOTES).values(text="young"))
            found = await read(database)

    assert found == ["old"]


async def test_migrating_again_keeps_the_rows(
    database_url: str | None, tmp_path: Path, migrations: Path
) -> None:
    """A second start finds its tables and rows, and puts a new version of the tables on top."""
    async with Database.open("notes", database_url, tmp_path, migrations) as database:
        await write(database, "kept")
    async with Database.open("notes", database_url, tmp_path, migrations) as database:
        await write(database, "kept too")
    (migrations / "0002_colour.py").write_text(SECOND)
    async with Database.open("notes", database_url, tmp_path, migrations) as database:
        assert await read(database) == ["kept", "kept too"]
        colours = sa.text("SELECT colour FROM notes")
        assert await database.read(lambda c: list(c.scalars(colours))) == [None, None]


@pytest.mark.usefixtures("migrations")
async def test_replicas_migrate_at_once(database_url: str | None, tmp_path: Path) -> None:
    """Two processes that start together on an empty database both find their tables."""
    command = ("-c", REPLICA, database_url or "", tmp_path)
    async with asyncio.timeout(60), started(*command) as one, started(*command) as other:
        assert [await replica.wait() for replica in (one, other)] == [0, 0]


async def test_services_do_not_see_each_other(
    database: Database, open_database: Opener, migrations: Path
) -> None:
    """Two services on one URL have a table of the same name each."""
    await write(database, "mine")

    assert await read(await open_database("others", migrations)) == []


async def test_a_server_that_is_away(
    tmp_path: Path, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is away is an OSError with its address and advice."""
    monkeypatch.setattr(module, "START_SECONDS", 0.0)
    (port,) = ports.unused(1)
    url = f"postgresql+asyncpg://someone:secret-word@127.0.0.1:{port}/none"
    with pytest.raises(OSError, match="the database of notes, ") as caught:
        async with Database.open("notes", url, tmp_path, migrations):
            pass

    assert f" postgresql+asyncpg://someone:***@127.0.0.1:{port}/none: " in str(caught.value)
    assert str(caught.value).endswith("; start it there, or set DATABASE_URL to where it listens")


@pytest.mark.postgres
async def test_a_server_that_is_starting_is_waited_for(
    postgres_url: str, tmp_path: Path, migrations: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is still starting is waited for, and the log says so."""
    monkeypatch.setattr(module, "RECONNECT_SECONDS", 0.02)
    url = sa.make_url(postgres_url)
    (port,) = ports.unused(1)
    there = url.set(port=port).render_as_string(hide_password=False)

    async def opened() -> bool:
        async with Database.open("waiting", there, tmp_path, migrations) as database:
            return await database.ready()

    with structlog.testing.capture_logs() as logs:
        opening = asyncio.create_task(opened())

        async def logged() -> bool:
            return bool(logs)

        await until(logged)
        async with Proxy.to(url.port or 0, port=port):
            assert await opening

    assert logs[0]["event"] == "waiting for the database"
    assert logs[0]["log_level"] == "warning"
    assert str(url.password) not in str(logs)
    assert f":***@{url.host}:{port}/" in logs[0]["address"]


@pytest.mark.postgres
async def test_wrong_password(postgres_url: str, tmp_path: Path, migrations: Path) -> None:
    """A refused login or a missing database is reported at once, without the password."""
    url = sa.make_url(postgres_url)
    reasons = []
    for wrong in (url.set(password="secret-word"), url.set(database="nowhere")):
        text = wrong.render_as_string(hide_password=False)
        with pytest.raises(OSError, match=r"the database of notes, .*\*\*\*@") as caught:
            async with Database.open("notes", text, tmp_path, migrations):
                pass
        reasons.append(str(caught.value))

    assert "secret-word" not in reasons[0]
    assert "password authentication failed" in reasons[0]
    assert reasons[0].endswith("; check user and password in DATABASE_URL")
    assert reasons[1].endswith(
        ': database "nowhere" does not exist; make the database, or check the path of DATABASE_URL'
    )


async def test_a_file_that_cannot_be_opened(tmp_path: Path, migrations: Path) -> None:
    """A SQLite file that cannot be opened is an OSError that names the service."""
    (tmp_path / "notes.sqlite").mkdir()
    with pytest.raises(
        OSError, match=r"the database of notes, .+/notes\.sqlite: unable.+ DATA_DIR"
    ):
        async with Database.open("notes", None, tmp_path, migrations):
            pass


async def test_a_file_that_is_no_database(tmp_path: Path, migrations: Path) -> None:
    """A file that is no database is left unchanged, and raises OSError."""
    (tmp_path / "notes.sqlite").write_text("Dear diary, " * 100)
    with pytest.raises(
        OSError, match=r"the database of notes, .+/notes\.sqlite: file is not a database"
    ):
        async with Database.open("notes", None, tmp_path, migrations):
            pass

    assert (tmp_path / "notes.sqlite").read_text().startswith("Dear diary, ")


async def test_ready(database: Database) -> None:
    """A database that answers is ready."""
    assert await database.ready()


KEEP = sa.text("INSERT INTO notes (text) VALUES (:text)")
VALUES = {
    "too long an integer": lambda c: c.execute(
        sa.select(sa.bindparam("n", 1 << 63, sa.BigInteger))
    ),
    "no Unicode": lambda c: c.execute(KEEP, {"text": "\ud800"}),
    "too long an integer in a row": lambda c: dialect.execute(
        c, "SELECT column1 FROM $rows(bigint)", (), [(1 << 64,)]
    ),
    "no Unicode in a row": lambda c: dialect.execute(
        c, "SELECT column1 FROM $rows(text)", (), [("\ud800",)]
    ),
}


@pytest.mark.parametrize("name", VALUES)
async def test_a_value_that_cannot_be_held_is_refused(database: Database, name: str) -> None:
    """A value that the database cannot hold raises Reject, and the next transaction works."""
    with pytest.raises(Reject, match="the notes cannot hold a value"):
        await HandlerDatabase(database, "the notes").write(VALUES[name])

    assert await database.ready()


async def test_rows_that_contradict_each_other_stay_an_error(database: Database) -> None:
    """An IntegrityError is neither Retry nor Reject."""
    note = {"text": "the same"}
    await database.write(lambda c: c.execute(KEEP, note))

    with pytest.raises(sa.exc.IntegrityError), as_handler_errors("the notes"):
        await database.write(lambda c: c.execute(KEEP, note))


async def test_an_outage_raises_retry(database: Database) -> None:
    """An outage raises Retry, whatever the driver raises."""
    for error in (ConnectionRefusedError(), sa.exc.OperationalError("", None, Exception())):
        with (
            pytest.raises(Retry, match="the notes cannot be reached"),
            as_handler_errors("the notes"),
        ):
            raise error
    await database.write(lambda c: c.execute(sa.text("DROP TABLE notes")))
    with pytest.raises(Retry, match="cannot be reached"), as_handler_errors("the notes"):
        await database.write(lambda c: c.execute(KEEP, {"text": "a"}))


async def test_every_transaction_of_a_handler_raises_retry(database: Database) -> None:
    """Its reads and its log do so as its writes do."""
    notes, gone = HandlerDatabase(database, "the notes"), sa.text("SELECT * FROM gone")

    await notes.empty_log()
    for work in (notes.write, notes.read, notes.read_inline):
        with pytest.raises(Retry, match="the notes cannot be reached"):
            await work(lambda c: c.execute(gone))


async def test_pieces_until_none_is_left(database: Database) -> None:
    """Each piece is a transaction of its own; the sum counts all of them."""
    pieces = [3, 2, 0, 1]
    assert await database.write_all(lambda _: pieces.pop(0)) == 5
    assert pieces == [1]
