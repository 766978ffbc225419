"""Sessions that were logged out, at several consoles and without their database."""

import pytest
import sqlalchemy as sa

from services.console.logouts import EndedSessions
from services.console.sessions import Session
from services.console.store import MIGRATIONS, EndedSessionStore
from shared.errors import Retry
from shared.storage.database import Database
from tests.databases import Opener

OURS, THEIRS, OTHER = (
    Session(each, "ann", may_act=True, expires_at=2e9, way="token")
    for each in ("s-1", "s-2", "s-3")
)


async def rename(database: Database, before: str, after: str) -> None:
    """Rename a table, without which the database answers nothing."""
    change = sa.text(f"ALTER TABLE {before} RENAME TO {after}")
    await database.write(lambda c: c.execute(change))


async def test_a_session_that_was_ended_anywhere_is_ended_everywhere(open_database: Opener) -> None:
    """The database is asked at each request, so that no other console is late."""
    here, there = [
        EndedSessions(EndedSessionStore(await open_database("console", MIGRATIONS)))
        for _ in range(2)
    ]
    await here.end(OURS)

    assert await there.covers(OURS)
    assert not await there.covers(OTHER)


async def test_without_the_database_a_session_ends_here_and_later_elsewhere(
    open_database: Opener,
) -> None:
    """Sessions that were ended before still count; one that is ended meanwhile is kept later."""
    database = await open_database("console", MIGRATIONS)
    here, there = (EndedSessions(EndedSessionStore(database)) for _ in range(2))
    await there.end(THEIRS)
    await here.look()
    await rename(database, "ended_sessions", "away")
    with pytest.raises(Retry):
        await here.end(OURS)
    meanwhile = [await here.covers(each) for each in (OURS, THEIRS, OTHER)]
    await rename(database, "away", "ended_sessions")
    await here.look()

    assert meanwhile == [True, True, False]
    assert await there.covers(OURS)
