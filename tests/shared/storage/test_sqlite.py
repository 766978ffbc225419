"""One file, two threads: each transaction is kept or undone as a whole."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from shared.storage import sqlite
from shared.storage.sqlite import SqliteDatabase
from tests.processes import started
from tests.waiting import PATIENCE_SECONDS

NOTES = sa.Table("notes", sa.MetaData(), sa.Column("text", sa.Text, primary_key=True))
WRITER = """
import asyncio, sys
from pathlib import Path
import sqlalchemy as sa
from shared.storage.sqlite import SqliteDatabase

async def main(path, name):
    file = SqliteDatabase(Path(path))
    notes = [sa.text(f"INSERT INTO notes VALUES ('{name} {number}')") for number in range(300)]
    for start in range(0, 300, 10):  # thirty transactions, not one
        works = [lambda c, note=note: c.execute(note) for note in notes[start : start + 10]]
        await asyncio.gather(*map(file.write, works))
    await file.close()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name the file of one test."""
    return tmp_path / "notes.sqlite"


@pytest.fixture
async def file(path: Path) -> AsyncIterator[SqliteDatabase]:
    """Open a file for notes."""
    opened = SqliteDatabase(path)
    await opened.write(NOTES.metadata.create_all)
    yield opened
    await opened.close()


def note(text: str) -> Callable[[sa.Connection], object]:
    """Return a body that writes a note."""
    return lambda connection: connection.execute(sa.insert(NOTES).values(text=text))


def notes(path: Path) -> list[str]:
    """Read what is in the file, by no code of ours."""
    with closing(sqlite3.connect(path)) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY text")]


@asynccontextmanager
async def held(
    file: SqliteDatabase, go_on: threading.Event | None = None
) -> AsyncIterator[asyncio.Task[object]]:
    """Keep a transaction open until `go_on` or the end of the block, with a note in it."""
    loop = asyncio.get_running_loop()
    begun, go_on = asyncio.Event(), go_on or threading.Event()

    def work(connection: sa.Connection) -> None:
        note("held")(connection)
        loop.call_soon_threadsafe(begun.set)
        assert go_on.wait(PATIENCE_SECONDS)

    task = asyncio.create_task(file.write(work))
    await asyncio.wait_for(begun.wait(), PATIENCE_SECONDS)
    try:
        yield task
    finally:
        go_on.set()


async def asked(
    file: SqliteDatabase, *works: Callable[[sa.Connection], object]
) -> list[asyncio.Task[object]]:
    """Ask for works, and return when all wait for their transaction."""
    tasks = [asyncio.create_task(file.write(work)) for work in works]
    await asyncio.wait(tasks, timeout=0)
    return tasks


async def test_a_failure_is_of_its_work_alone(file: SqliteDatabase, path: Path) -> None:
    """A transaction that raises is undone, and those before and after it are kept."""

    def half(connection: sa.Connection) -> None:
        note("half")(connection)
        raise LookupError

    async with held(file) as first:
        others = await asked(file, note("a"), half, note("b"), note("a"))
    done = await asyncio.gather(first, *others, return_exceptions=True)

    assert [type(error) for error in done if isinstance(error, Exception)] == [
        LookupError,
        sa.exc.IntegrityError,
    ]
    assert notes(path) == ["a", "b", "held"]


@pytest.mark.parametrize("insert", ["INSERT OR ABORT", "INSERT OR ROLLBACK"])
async def test_a_failure_without_neighbours(file: SqliteDatabase, path: Path, insert: str) -> None:
    """A transaction that raises, or that SQLite gives up, leaves nothing; the next one is kept."""
    again = sa.text(f"{insert} INTO notes VALUES ('a')")

    def half(connection: sa.Connection) -> None:
        note("half")(connection)
        connection.execute(again)

    await file.write(note("a"))
    with pytest.raises(sa.exc.IntegrityError):
        await file.write(half)
    await file.write(note("b"))

    assert notes(path) == ["a", "b"]


async def test_a_failed_commit(file: SqliteDatabase, path: Path) -> None:
    """A transaction that cannot be committed is undone, and its neighbours are kept."""
    link = "CREATE TABLE links (text REFERENCES notes DEFERRABLE INITIALLY DEFERRED)"
    await file.write(lambda connection: connection.execute(sa.text(link)))
    dangling = sa.text("INSERT INTO links VALUES ('nowhere')")
    async with held(file) as first:
        tasks = await asked(file, note("a"), lambda c: c.execute(dangling), note("b"))
    done = await asyncio.gather(first, *tasks, return_exceptions=True)

    assert [type(error) for error in done if isinstance(error, Exception)] == [
        sa.exc.IntegrityError
    ]
    assert notes(path) == ["a", "b", "held"]


async def test_a_writer_that_waited_in_vain(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that waits too long for the file fails, and works again when the file is free."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.01)
    file = SqliteDatabase(path)
    await file.write(NOTES.metadata.create_all)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        done = await asyncio.gather(
            *map(file.write, (note("a"), note("b"))), return_exceptions=True
        )
    await file.write(note("c"))
    await file.close()

    assert ["locked" in str(error) for error in done] == [True, True]
    assert notes(path) == ["c"]


async def test_a_caller_cancelled_before_the_batch_writes_nothing(
    file: SqliteDatabase, path: Path
) -> None:
    """A work whose caller is cancelled while it waits is not begun; its neighbours are."""
    async with held(file) as first:
        gone, stays = await asked(file, note("gone"), note("stays"))
        gone.cancel()
    await asyncio.gather(first, stays)

    assert gone.cancelled()
    assert notes(path) == ["held", "stays"]


async def test_a_caller_cancelled_in_the_batch_does_not_stop_others(
    file: SqliteDatabase, path: Path
) -> None:
    """A cancellation undoes nothing that has begun, and harms no neighbour."""
    async with held(file) as first:
        first.cancel()
        await asyncio.wait({first})
        (other,) = await asked(file, note("other"))
    await other

    assert first.cancelled()
    assert notes(path) == ["held", "other"]


async def test_what_was_deleted_is_in_no_file(file: SqliteDatabase, path: Path) -> None:
    """After the log was emptied the bytes of deleted rows are on no disk."""
    await file.write(note("ada@one.example"))
    await file.write(lambda connection: connection.execute(sa.delete(NOTES)))
    before = [each for each in path.parent.iterdir() if b"ada@one" in each.read_bytes()]
    await file.empty_log()

    assert before != []
    assert [each for each in path.parent.iterdir() if b"ada@one" in each.read_bytes()] == []


async def test_a_reader_may_need_the_log(
    file: SqliteDatabase, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that a reader needs is not emptied, which is an error; once it has ended, it is."""
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.1)
    await file.write(note("a"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT * FROM notes").fetchall()
        await file.write(note("b"))
        with pytest.raises(OSError, match="reader"):
            await file.empty_log()
        await file.write(note("c"))
    await file.empty_log()

    assert path.with_name(f"{path.name}-wal").stat().st_size == 0
    assert notes(path) == ["a", "b", "c"]


async def test_two_empty_one_log(file: SqliteDatabase, path: Path) -> None:
    """Replicas that purge at once wait for each other."""
    other = SqliteDatabase(path)
    try:
        for number in range(20):
            await file.write(note(f"{number}"))
            await asyncio.gather(file.empty_log(), other.empty_log())
    finally:
        await other.close()

    assert path.with_name(f"{path.name}-wal").stat().st_size == 0


async def test_others_cannot_read_the_files(file: SqliteDatabase, path: Path) -> None:
    """A new file and the log beside it are the owner's alone."""
    await file.write(note("a"))
    modes = {each.name: each.stat().st_mode & 0o777 for each in path.parent.iterdir()}

    assert len(modes) == 3
    assert {*modes.values()} == {0o600}


async def test_a_reader_does_not_wait_for_a_writer(file: SqliteDatabase) -> None:
    """A read inside somebody's open transaction sees what was committed before it."""
    await file.write(note("old"))
    async with held(file), asyncio.timeout(PATIENCE_SECONDS):
        found = await file.read(lambda connection: list(connection.scalars(sa.select(NOTES))))

    assert found == ["old"]


async def test_a_look_waits_for_no_thread(file: SqliteDatabase) -> None:
    """Neither for the writer nor for readers, and it sees what was committed before."""
    await file.write(note("committed"))
    go_on = threading.Event()
    try:
        async with held(file):
            reading = asyncio.create_task(file.read(lambda _: go_on.wait(PATIENCE_SECONDS)))
            found = await file.read_inline(
                lambda connection: connection.scalars(sa.select(NOTES)).all()
            )
    finally:
        go_on.set()
    await reading

    assert found == ["committed"]


async def test_a_look_at_a_file_that_another_has_to_itself(
    file: SqliteDatabase, path: Path
) -> None:
    """It waits for that in a thread, not in the loop."""
    await file.close()
    other = sqlite3.connect(path, isolation_level=None)
    opened = SqliteDatabase(path)
    try:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("INSERT INTO notes VALUES ('theirs')")
        looking = asyncio.create_task(
            opened.read_inline(lambda connection: connection.scalars(sa.select(NOTES)).all())
        )
        await asyncio.sleep(0)
        other.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await looking == ["theirs"]
    finally:
        await opened.close()


async def test_no_look_after_the_end(path: Path) -> None:
    """A closed file is not opened again unseen."""
    file = SqliteDatabase(path)
    await file.close()

    with pytest.raises(RuntimeError, match="closed"):
        await file.read_inline(lambda connection: connection.execute(sa.select(1)))


async def test_closing_finishes_what_was_asked_for(path: Path) -> None:
    """Closing commits the transactions under way or waiting, and ends the threads."""
    before = set(threading.enumerate())
    file = SqliteDatabase(path)
    await file.write(NOTES.metadata.create_all)
    async with held(file) as first:
        others = await asked(file, *(note(f"{number}") for number in range(5)))
        closed = asyncio.create_task(file.close())
    await asyncio.wait_for(closed, PATIENCE_SECONDS)

    assert first.done()
    assert all(task.done() and not task.exception() for task in others)
    assert len(notes(path)) == 6
    assert set(threading.enumerate()) == before
    with pytest.raises(RuntimeError, match="closed"):
        await file.read(note("late"))


async def test_a_cancelled_close_still_ends_the_threads(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancelled close cancels the transactions that wait, and ends the threads."""
    before, go_on = set(threading.enumerate()), threading.Event()

    class Thread(ThreadPoolExecutor):
        """Release the transaction under way only when those behind it are cancelled."""

        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002 -- as of the library
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            go_on.set()
            super().shutdown(wait)

    monkeypatch.setattr(sqlite, "ThreadPoolExecutor", Thread)
    file = SqliteDatabase(path)
    await file.write(NOTES.metadata.create_all)
    async with held(file, go_on) as first:
        (other,) = await asked(file, note("late"))
        closed = asyncio.create_task(file.close())
        await asyncio.wait({closed}, timeout=0)
        closed.cancel()
        await asyncio.wait_for(asyncio.wait({closed, first, other}), PATIENCE_SECONDS)

    assert closed.cancelled()
    assert other.cancelled()
    assert notes(path) == ["held"]
    assert set(threading.enumerate()) == before


@pytest.mark.usefixtures("file")
async def test_two_processes_write_one_file(path: Path) -> None:
    """Writers of one file in several processes wait for each other and lose nothing."""
    async with (
        asyncio.timeout(60),
        started("-c", WRITER, path, "a") as one,
        started("-c", WRITER, path, "b") as other,
    ):
        assert [await writer.wait() for writer in (one, other)] == [0, 0]

    assert len(notes(path)) == 600


async def test_a_process_that_forgets_to_close_ends(tmp_path: Path) -> None:
    """The threads keep no process alive, not even in a transaction."""
    program = WRITER.replace("    await file.close()\n", "").replace(
        "    notes =",
        "    await file.write(lambda c: c.execute(sa.text('CREATE TABLE notes (t)')))\n    notes =",
    )
    async with started("-c", program, tmp_path / "x.sqlite", "a") as writer:
        assert await asyncio.wait_for(writer.wait(), PATIENCE_SECONDS) == 0
