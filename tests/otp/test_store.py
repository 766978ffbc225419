"""Challenges in both databases: one alive, guesses counted, used once, forgotten in time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from services.otp.challenge import Draft, Holder, Rules
from services.otp.codes import Codebook
from services.otp.service import MIGRATIONS
from services.otp.store import KEEP_SECONDS, ChallengeStore
from services.otp.tables import challenges, commands, metadata
from shared.database import Database
from tests.clock import Clock

ANNA = Holder("shop", "anna@example.com")
BOOK = Codebook([bytes(32)])
RULES = Rules(lifetime=600, tries=5, digits=6)


@pytest.fixture
def clock() -> Clock:
    """Give the time of one test."""
    return Clock()


@pytest.fixture
async def database(database_url: str | None, tmp_path: Path) -> AsyncIterator[Database]:
    """Open the database of one test."""
    async with Database.open("otp", database_url, tmp_path, MIGRATIONS) as opened:
        yield opened


@pytest.fixture
def store(database: Database, clock: Clock) -> ChallengeStore:
    """Give the store of one test."""
    return ChallengeStore(database, RULES, BOOK.key_ids, clock)


@pytest.fixture
async def replica(
    database: Database, database_url: str | None, tmp_path: Path, clock: Clock
) -> AsyncIterator[ChallengeStore]:
    """Give the same store as another process has it."""
    del database  # opened first
    async with Database.open("otp", database_url, tmp_path, MIGRATIONS) as opened:
        yield ChallengeStore(opened, RULES, BOOK.key_ids, clock)


def draft(holder: Holder = ANNA) -> Draft:
    """Give a challenge to be made."""
    return BOOK.draft(holder)


async def rows(database: Database, table: sa.Table) -> int:
    """Count the rows of a table."""
    count = sa.select(sa.func.count()).select_from(table)
    return await database.read(lambda connection: connection.scalar(count)) or 0


async def test_the_migrations_make_the_tables(database: Database) -> None:
    """The tables that the store writes to are those that the migrations make."""
    differences = await database.read(
        lambda connection: compare_metadata(MigrationContext.configure(connection), metadata)
    )

    assert differences == []


async def test_asking_again_repeats(store: ChallengeStore, clock: Clock) -> None:
    """While a challenge lives, asking again gives it again, with the same expiry."""
    first = await store.issue("command-1", draft())
    clock.seconds += 300

    assert await store.issue("command-2", draft()) == first
    assert first.expires_at.timestamp() == clock.seconds + 300


async def test_another_holder_has_another_challenge(store: ChallengeStore) -> None:
    """A challenge belongs to one client and one address."""
    holders = (ANNA, Holder("bank", ANNA.email), Holder("shop", "ben@example.com"), Holder("", "a"))
    issued = [await store.issue(f"c-{holder}", draft(holder)) for holder in holders]

    assert len({challenge.id for challenge in issued}) == 4
    assert [challenge.holder for challenge in issued] == list(holders)


async def test_asked_at_once_there_is_one(store: ChallengeStore, replica: ChallengeStore) -> None:
    """Commands that arrive at once, at two replicas, make one challenge."""
    both = (store, replica)
    issued = await asyncio.gather(
        *(both[number % 2].issue(f"command-{number}", draft()) for number in range(20))
    )

    assert len({challenge.id for challenge in issued}) == 1


async def test_the_same_command_gets_the_same(store: ChallengeStore, clock: Clock) -> None:
    """A command that comes again gets its own challenge, also when that is used up or expired."""
    first = await store.issue("command-1", draft())
    await store.use(first.id, "request-1")
    second = await store.issue("command-2", draft())
    clock.seconds += 3600
    third = await store.issue("command-3", draft())

    assert len({first.id, second.id, third.id}) == 3
    assert await store.issue("command-1", draft()) == first
    assert await store.issue("command-2", draft()) == second


async def test_the_dead_are_replaced(store: ChallengeStore, clock: Clock) -> None:
    """After use, expiry or exhaustion a new challenge starts, and only that one is asked for."""
    used = await store.issue("command-1", draft())
    await store.use(used.id, "request-1")
    expired = await store.issue("command-2", draft())
    clock.seconds += 600
    exhausted = await store.issue("command-3", draft())
    for number in range(5):
        await store.guess(ANNA, f"guess-{number}")
    alive = await store.issue("command-4", draft())

    assert len({used.id, expired.id, exhausted.id, alive.id}) == 4
    assert await store.guess(ANNA, "request-2") == alive


async def test_a_withdrawn_key_ends_its_challenges(
    database: Database, store: ChallengeStore, clock: Clock
) -> None:
    """A challenge whose key was taken away is replaced at once, for its own command too."""
    old = await store.issue("command-1", draft())
    book = Codebook([bytes([1] * 32)])
    rotated = ChallengeStore(database, RULES, book.key_ids, clock)
    new = await rotated.issue("command-1", book.draft(ANNA))

    assert new.id != old.id
    assert new.key_id == book.key_ids[0]
    assert await rotated.issue("command-1", book.draft(ANNA)) == new


async def test_nothing_to_guess(store: ChallengeStore, clock: Clock) -> None:
    """Unknown, expired and used alike there is nothing to compare with."""
    unknown = await store.guess(ANNA, "request-1")
    challenge = await store.issue("command-1", draft())
    await store.use(challenge.id, "request-2")
    used = await store.guess(ANNA, "request-3")
    await store.issue("command-2", draft())
    clock.seconds += 600
    expired = await store.guess(ANNA, "request-4")

    assert (unknown, used, expired) == (None, None, None)


async def test_so_many_guesses(store: ChallengeStore, replica: ChallengeStore) -> None:
    """Of 50 guesses at once, at two replicas, five may be compared."""
    challenge = await store.issue("command-1", draft())
    both = (store, replica)
    given = await asyncio.gather(
        *(both[number % 2].guess(ANNA, f"request-{number}") for number in range(50))
    )

    assert [found for found in given if found] == [challenge] * 5


async def test_a_guess_is_counted_before_it_is_given(
    store: ChallengeStore, replica: ChallengeStore
) -> None:
    """A guess whose comparison never comes is counted all the same: a crash gives none back."""
    await store.issue("command-1", draft())
    for number in range(5):
        assert await store.guess(ANNA, f"lost-{number}")

    assert await replica.guess(ANNA, "request-1") is None


async def test_used_once(store: ChallengeStore, replica: ChallengeStore) -> None:
    """Of 100 requests that use a challenge at once, at two replicas, exactly one does."""
    challenge = await store.issue("command-1", draft())
    both = (store, replica)
    used = await asyncio.gather(
        *(both[number % 2].use(challenge.id, f"request-{number}") for number in range(100))
    )

    assert used.count(True) == 1


async def test_the_user_may_ask_again(store: ChallengeStore, replica: ChallengeStore) -> None:
    """The request that used a challenge finds it used by itself, ten copies at once too."""
    challenge = await store.issue("command-1", draft())
    both = (store, replica)

    async def ask(store: ChallengeStore) -> bool:
        guessed = await store.guess(ANNA, "request-1")
        return guessed is not None and await store.use(guessed.id, "request-1")

    assert await ask(store)
    assert all(await asyncio.gather(*(ask(both[number % 2]) for number in range(10))))
    assert await store.guess(ANNA, "request-2") is None
    assert await store.use(challenge.id, "request-2") is False


async def test_copies_of_one_request_agree(store: ChallengeStore, replica: ChallengeStore) -> None:
    """Copies of one request that run at once, at two replicas, all find the challenge."""
    await store.issue("command-1", draft())

    async def ask(store: ChallengeStore) -> bool:
        guessed = await store.guess(ANNA, "request-1")
        return guessed is not None and await store.use(guessed.id, "request-1")

    both = (store, replica)
    # As many as there are guesses: more could be refused before the first one is through.
    assert all(await asyncio.gather(*(ask(both[number % 2]) for number in range(5))))


async def test_a_repeated_request_leaves_a_newer_challenge_alone(store: ChallengeStore) -> None:
    """The request that used a challenge gets that one, though a newer one is alive."""
    old = await store.issue("command-1", draft())
    await store.use(old.id, "request-1")
    new = await store.issue("command-2", draft())

    assert await store.guess(ANNA, "request-1") == old
    assert [await store.guess(ANNA, f"request-{n}") for n in range(2, 7)] == [new] * 5


async def test_a_request_is_known_to_its_holder_alone(store: ChallengeStore) -> None:
    """Another client with the same request id is not given somebody else's challenge."""
    challenge = await store.issue("command-1", draft())
    await store.use(challenge.id, "request-1")

    assert await store.guess(Holder("bank", ANNA.email), "request-1") is None


async def test_too_late_to_use(store: ChallengeStore, clock: Clock) -> None:
    """A guess that was counted in time does not use a challenge after its expiry."""
    challenge = await store.issue("command-1", draft())
    clock.seconds += 600

    assert await store.use(challenge.id, "request-1") is False


async def test_the_dead_leave_within_a_day(
    store: ChallengeStore, clock: Clock, database: Database
) -> None:
    """Used, expired and replaced challenges are deleted with their commands; the living stay."""
    used = await store.issue("command-1", draft())
    await store.use(used.id, "request-1")
    await store.issue("command-2", draft())
    clock.seconds += 600 + KEEP_SECONDS
    alive = await store.issue("command-3", draft())
    kept = await rows(database, challenges)
    clock.seconds += 1

    assert kept == 3
    assert await store.purge() == 2
    assert await rows(database, commands) == 1
    assert await store.guess(ANNA, "request-2") == alive


async def test_no_code_is_stored(store: ChallengeStore, database: Database) -> None:
    """No column holds the code, as text or as a number."""
    challenge = await store.issue("command-1", draft())
    guessed = await store.guess(ANNA, "request-1")
    assert guessed
    await store.use(guessed.id, "request-1")
    stored = await database.read(
        lambda connection: [
            value
            for table in (challenges, commands)
            for row in connection.execute(sa.select(table))
            for value in row
        ]
    )

    code = BOOK.code(challenge)
    assert code not in map(str, stored)
    assert not any(isinstance(value, bytes) and code.encode() in value for value in stored)


@asynccontextmanager
async def real(database_url: str | None, folder: Path) -> AsyncIterator[ChallengeStore]:
    """Give a store by the database's own clock, whose challenges live a day."""
    async with Database.open("otp", database_url, folder, MIGRATIONS) as database:
        yield ChallengeStore(database, Rules(86_400, 5, 6), BOOK.key_ids)


async def test_by_the_databases_own_clock(database_url: str | None, tmp_path: Path) -> None:
    """The time of the database decides, not that of the process."""
    async with real(database_url, tmp_path) as store:
        challenge = await store.issue("command-1", draft())

        assert await store.guess(ANNA, "request-1") == challenge
        assert await store.use(challenge.id, "request-1")
        assert await store.purge() == 0
