"""Codes in both databases: by their clock, cancelled, deleted in time, never in the clear."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.otp.codes import CodeScope
from services.otp.guessing import CodeUse, CountedGuess
from services.otp.issuing import Issued, IssueRefused, IssueRequest
from services.otp.limits import CodeLimits
from services.otp.service import MIGRATIONS
from services.otp.sql import challenges, commands, failures, guesses, mails, metadata
from services.otp.store import KEEP_MS, KEEP_UNSEEN_MS, ChallengeStore
from shared.contracts import Withholding
from shared.errors import Reject, Retry
from shared.storage import dialect
from shared.storage.database import Database
from tests.clock import Clock
from tests.databases import differences, has_log
from tests.otp.asking import ANNA, GENERATOR, IP, NO_LIMITS, POLICY, Asking, rows

HOUR, DAY = 3600, 86_400  # seconds


async def test_the_migrations_make_the_tables(database: Database) -> None:
    """The tables that the store writes to are those that the migrations make."""
    assert await differences(database, metadata) == []


async def test_the_first_tables_make_room(database_url: str | None, tmp_path: Path) -> None:
    """A database of the first version, whose tables were others, has those of the last one."""
    old = tmp_path / "migrations"
    old.mkdir()
    shutil.copy(MIGRATIONS / "0001_challenges.py", old)
    async with Database.open("otp", database_url, tmp_path, old) as database:
        for name in ("challenges", "commands"):
            await database.write(partial(_make_table, name=name))

    async with Database.open("otp", database_url, tmp_path, MIGRATIONS) as database:
        assert await differences(database, metadata) == []


def _make_table(connection: sa.Connection, name: str) -> None:
    connection.execute(sa.text(f"CREATE TABLE {name} (id TEXT PRIMARY KEY, tries INTEGER)"))


async def test_a_challenge_of_before_is_known(database_url: str | None, tmp_path: Path) -> None:
    """A code from before the last migration is right after it, and has its cooldown."""
    old = tmp_path / "migrations"
    old.mkdir()
    for name in ("0001_challenges.py", "0002_purposes.py", "0003_failures.py"):
        shutil.copy(MIGRATIONS / name, old)
    loud = replace(ANNA, email="ANNA@example.com")
    async with Database.open("otp", database_url, tmp_path, old) as database:
        await database.write(lambda connection: _keep_a_challenge(connection, loud))

    async with real(database_url, tmp_path) as asking:
        assert isinstance(await asking.issue(ANNA), IssueRefused)
        assert await asking.guess(loud) is not None


def _keep_a_challenge(connection: sa.Connection, scope: CodeScope) -> None:
    now = connection.execute(sa.select(dialect.now(connection))).scalar_one()
    values = {
        "id": "before",
        "client": scope.client,
        "purpose": scope.purpose,
        "email": scope.email,
        "nonce": bytes(16),
        "key_id": next(iter(POLICY.key_ids)),
        "digits": 6,
        "created_at": now,
        "expires_at": now + POLICY.lifetime,
        "mailed_at": now,
    }
    connection.execute(sa.insert(sa.table("challenges", *map(sa.column, values))), values)


async def test_only_its_client_cancels(asking: Asking) -> None:
    """Another client cancels nothing, nor does a wrong id; twice does no harm."""
    challenge = await asking.challenge(ANNA)
    await asking.store.cancel(challenge.id, "bank")
    await asking.store.cancel("no-challenge", ANNA.client)
    kept = await asking.guess(ANNA)
    await asking.store.cancel(challenge.id, ANNA.client)
    await asking.store.cancel(challenge.id, ANNA.client)

    assert kept == challenge
    assert await asking.guess(ANNA) is None


async def test_a_clock_that_jumps_forward(asking: Asking, clock: Clock) -> None:
    """A code ends when the clock jumps past its end, and a new one has no cooldown."""
    challenge = await asking.challenge(ANNA)
    clock.seconds += HOUR

    assert await asking.guess(ANNA) is None
    assert await asking.use(challenge) is False
    assert (await asking.challenge(ANNA)).id != challenge.id


async def test_a_clock_that_is_put_back(asking: Asking, clock: Clock) -> None:
    """A clock put back revives no code, gives no guess back and makes no scope wait."""
    await asking.challenge(ANNA)
    await asking.guesses(ANNA, 5)
    ben, eve = replace(ANNA, email="ben@example.com"), replace(ANNA, email="eve@example.com")
    await asking.challenge(ben)
    used = await asking.challenge(eve)
    await asking.use(used)
    clock.seconds -= HOUR
    await asking.store.purge()
    back = [await asking.guess(scope) for scope in (ANNA, ben, eve)]
    reused = await asking.use(used, "another")
    new = await asking.challenge(ben)
    clock.seconds += HOUR

    assert back == [None, None, None]
    assert reused is False
    assert [await asking.guess(scope) for scope in (ANNA, ben, eve)] == [None, None, None]
    assert new.expires_at == (clock.seconds - HOUR + 600) * 1000


async def test_a_clock_that_was_put_right(asking: Asking, clock: Clock) -> None:
    """A clock put back by a second ends no code."""
    challenge = await asking.challenge(ANNA)
    clock.seconds -= 1

    assert await asking.store.purge() == 0
    assert await asking.guess(ANNA) == challenge
    assert await asking.use(challenge)


async def test_the_dead_leave_within_a_day(
    asking: Asking, clock: Clock, database: Database
) -> None:
    """Used and expired challenges are deleted with their commands; the living stay."""
    await asking.use(await asking.challenge(ANNA))
    await asking.challenge(ANNA)
    clock.seconds += 600
    await asking.store.purge()
    clock.seconds += KEEP_MS / 1000
    alive = await asking.challenge(ANNA)
    await asking.store.purge()
    kept = await rows(database, challenges)
    clock.seconds += 0.001
    await asking.store.purge()

    assert kept == 2  # the one that expired, and the living one
    assert await rows(database, challenges) == 1
    assert await rows(database, commands) == 1
    assert await asking.guess(ANNA) == alive


async def test_guesses_and_mails_leave(asking: Asking, clock: Clock, database: Database) -> None:
    """A guess at no challenge is kept for an hour, all else for as long as it counts."""
    limits = replace(NO_LIMITS, total_hourly=100, client_failures=100)
    clock.seconds += -clock.seconds % HOUR
    await asking.judged(replace(ANNA, email="nobody@example.com"))
    await asking.issue(ANNA, limits=limits)
    await asking.judged(ANNA, limits=limits.of_guess(ANNA, None))
    counts = []
    for seconds in (
        KEEP_UNSEEN_MS / 1000,
        0.001,
        DAY - KEEP_UNSEEN_MS / 1000 - 0.001,
        0.001,
        90,
        HOUR,
    ):
        clock.seconds += seconds
        await asking.store.purge()
        counts.append([await rows(database, table) for table in (guesses, mails, failures)])

    assert counts == [[2, 1, 1], [1, 1, 1], [1, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 0]]


async def test_a_great_many_leave(asking: Asking, clock: Clock, database: Database) -> None:
    """More rows than one transaction deletes are deleted in several."""
    await asyncio.gather(
        *(asking.guess(replace(ANNA, email=f"{number}@example.com")) for number in range(1001))
    )
    clock.seconds += 2 * HOUR

    assert await asking.store.purge() == 1001
    assert await rows(database, guesses) == 0


async def test_all_at_once(replicas: Sequence[Asking]) -> None:
    """All kinds of requests at once, at 3 replicas, in any order, make no deadlock."""
    scopes = [replace(ANNA, email=f"{number}@example.com") for number in range(5)]
    limits = CodeLimits(*[1000] * 8)

    async def live(number: int) -> bool:
        asking, scope = replicas[number % 3], scopes[number % 5]
        issued = await asking.issue(scope, limits=limits)
        judged = await asking.judged(scope, limits=limits.of_guess(scope, IP))
        assert isinstance(issued, Issued)
        assert isinstance(judged, CountedGuess)
        used = await asking.store.use(CodeUse(judged, issued.challenge))
        await asking.store.cancel(issued.challenge.id, scope.client)
        await asking.store.purge()
        return used

    used = await asyncio.gather(*(live(number) for number in range(60)))

    assert used.count(True) >= len(scopes)


async def test_no_code_is_stored(asking: Asking, database: Database) -> None:
    """No column of any table holds the code, as text, number or bytes."""
    answer = await asking.issue(ANNA, limits=CodeLimits(5, 5, 5, 5, 5, 5))
    assert isinstance(answer, Issued)
    code = GENERATOR.code(answer.challenge)
    await asking.guess(ANNA, "request-1", code)
    await asking.use(answer.challenge, "request-1", code)
    stored = await database.read(
        lambda connection: [
            value
            for table in metadata.sorted_tables
            for row in connection.execute(sa.select(table))
            for value in row
        ]
    )

    assert len(stored) > 20
    assert code not in map(str, stored)
    assert not any(isinstance(value, bytes) and code.encode() in value for value in stored)


async def test_a_database_that_is_away(tmp_path: Path) -> None:
    """A guess is retried while the database is away."""
    async with Database.open("otp", None, tmp_path, MIGRATIONS) as database:
        asking = Asking(ChallengeStore(database, POLICY))
        await database.write(lambda c: c.exec_driver_sql("DROP TABLE guesses"))

        with pytest.raises(Retry, match="the codes cannot be reached"):
            await asking.guess(ANNA)


async def test_spellings_of_an_address_share_a_cooldown(asking: Asking) -> None:
    """All spellings have one cooldown; each code is right for its own spelling (issue 10, A12)."""
    loud = replace(ANNA, email="ANNA@example.com")
    challenge = await asking.challenge(ANNA)

    withheld = await asking.issue(loud)
    assert isinstance(withheld, IssueRefused)
    assert withheld.reason is Withholding.COOLDOWN
    assert await asking.guess(loud) is None
    assert await asking.guess(ANNA) == challenge


async def test_poison_takes_no_neighbour_with_it(asking: Asking) -> None:
    """A request that no database can hold is refused; others at the same time are answered."""
    scopes = [replace(ANNA, email=f"a{number}@example.com") for number in range(5)]
    new_challenge = replace(asking.generator.new_challenge(ANNA, None), digits=1 << 63)
    poison = asking.store.issue(IssueRequest("command/poison", new_challenge, ()))

    refused, *answers = await asyncio.gather(
        poison, *map(asking.issue, scopes), return_exceptions=True
    )

    assert isinstance(refused, Reject)
    assert [type(each) for each in answers] == [Issued] * 5


@asynccontextmanager
async def real(database_url: str | None, folder: Path) -> AsyncIterator[Asking]:
    """Return a store by the database's own clock, whose challenges live a day."""
    async with Database.open("otp", database_url, folder, MIGRATIONS) as database:
        yield Asking(ChallengeStore(database, replace(POLICY, lifetime=DAY * 1000)))


async def test_by_the_databases_own_clock(database_url: str | None, tmp_path: Path) -> None:
    """Times are those of the database, not of the process."""
    async with real(database_url, tmp_path) as asking:
        challenge = await asking.challenge(ANNA)

        assert await asking.guess(ANNA) == challenge
        assert await asking.use(challenge)
        assert await asking.store.purge() == 0
        assert not has_log(tmp_path)


async def test_forgotten(free: Asking, database: Database, tmp_path: Path) -> None:
    """Nothing is left of a forgotten address, and its code is not right any more."""
    loud = replace(ANNA, email="Anna@example.com")
    limits = CodeLimits(100, 100, 0, 0, 0, 0)
    ben = replace(ANNA, email="ben@example.com")
    for scope in (ANNA, loud, ben):
        await free.issue(scope, limits=limits)
        await free.guess(scope)
    await free.store.forget("ANNA@example.com")
    await free.store.forget("ANNA@example.com")
    assert not has_log(tmp_path)

    assert await free.guess(ANNA) is None
    assert await free.guess(ben) is not None
    for table in (challenges, mails):
        left = str(await database.read(partial(_all_rows, table=table)))
        assert "anna" not in left.lower()
        assert "ben" in left


def _all_rows(connection: sa.Connection, table: sa.Table) -> Sequence[object]:
    return connection.execute(sa.select(table)).all()
