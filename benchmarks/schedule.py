"""How fast the scheduler mails what is due, what the next costs to find, and how late mails are.

All subscriptions are due before the scheduler starts. Each takes the whole path: claimed in the
database, its mail made with a link of its own, published, confirmed, and moved on.
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import NamedTuple

import sqlalchemy as sa

from benchmarks import mail, report
from benchmarks.bench import POSTGRESQL, SQLITE, Bench, BenchError, BenchPlan, load_average
from benchmarks.report import Series
from benchmarks.services import NAME, Vhost, database
from services.scheduler.service import MIGRATIONS
from services.scheduler.store.content_types import ContentStore
from services.scheduler.store.due import DueStore, Leases, Step, milliseconds
from services.scheduler.store.tables import subscriptions
from shared.consumer import Subscription
from shared.contracts import Category, Contract, Missed, SaveContentType, SendEmail
from shared.contracts.schedule import subscription_id
from shared.storage.database import Database
from shared.topology import Owner, sending_queue

WANTED_RATES = {SQLITE: 2000, POSTGRESQL: 3000}  # due subscriptions a second
FEW = 1000  # subscriptions, beside `plan.known`
MAX_DEARER_SHARE = 0.2  # of finding the next among many
IDLE_LATER = (30, 30.0)  # mails for later, and the seconds over which they are due
MINUTE_SECONDS = 60.0  # the same for half of `plan.due`
MAX_LATE_SECONDS = 1.0  # wanted
LOOKS = 300  # for the next
LIST = "news"
ROWS = 1000  # of an insert
_RELEASE_SECONDS = 600.0  # for all of it
_OWN = {
    "SCHEDULER_PUBLIC_URL": "https://bench.example",
    "SCHEDULER_RATE": "100000",
    "SCHEDULER_SPREAD_SECONDS": "0",
}
_STYLE = "<style>p{color:#333;font-family:sans-serif}a{color:#06c}</style>"
_PARAGRAPH = "<p>Some words about <a href='https://bench.example/item'>a thing</a> of the week.</p>"
HTML = (
    f"<html><head>{_STYLE}</head><body><h1>Hello {{{{ name }}}}</h1>{_PARAGRAPH * 8}</body></html>"
)


class Released(NamedTuple):
    """All that was due: subscriptions a second, processor seconds of each, the most memory."""

    rate: float
    processor: float
    memory: int


async def released(bench: Bench, name: str, count: int) -> Released:
    """Measure a scheduler while so many subscriptions in a database are due."""
    data = bench.directory / f"due-{secrets.token_hex(4)}"
    data.mkdir()
    owners = (Owner.SCHEDULER, Owner.SENDER)
    async with Vhost.opened(bench, owners) as vhost, database(bench, name) as settings:
        url = settings.get("DATABASE_URL")
        async with Database.open("scheduler", url, data, MIGRATIONS) as opened:
            await fill(opened, count, datetime.now(UTC) - timedelta(minutes=1))
        async with vhost.running("scheduler", data, **settings, **_OWN) as service:
            before = service.processor
            async with asyncio.timeout(_RELEASE_SECONDS):
                rate = await service.rate(count, "postrider_newsletters_total", end="published")
            found = Released(rate, (service.processor - before) / count, service.memory)
        waiting = await vhost.waiting_mails(Category.BULK)
        if waiting != count:
            raise BenchError(f"{waiting} mails wait, of {count} subscriptions that were due")
        return found


async def fill(
    opened: Database,
    count: int,
    first: datetime,
    apart: timedelta = timedelta(),
    *,
    client: str = NAME,
) -> None:
    """Add a content type, and subscriptions whose next periods are `apart` from each other."""
    await ContentStore(opened).save(
        SaveContentType(
            id="fill", client=client, name=LIST, replaces=False, subject="{{ name }}", html=HTML
        )
    )

    def add(connection: sa.Connection, numbers: range) -> None:
        rows = [_row(client, number, milliseconds(first + number * apart)) for number in numbers]
        connection.execute(sa.insert(subscriptions), rows)

    for start in range(0, count, ROWS):
        numbers = range(start, min(start + ROWS, count))
        await opened.write(lambda c, numbers=numbers: add(c, numbers))  # type: ignore[misc]
    await opened.write(lambda c: c.execute(sa.text("ANALYZE")))


def _row(client: str, number: int, period_at: int) -> dict[str, object]:
    email = f"{client}-{number}@domain{number % 1000}.example"
    return {
        "id": subscription_id(client, LIST, email),
        "client": client,
        "content_type": LIST,
        "email": email,
        "folded": email,
        "frequency": "@daily",
        "timezone": "Europe/Berlin",
        "variables": f'{{"name":"User {number}"}}',
        "missed": Missed.LATEST.value,
        "pending": False,
        "created_at": 0,
        "period_at": period_at,
        "due_at": period_at,
    }


async def finding(bench: Bench, name: str, counts: Sequence[int]) -> Sequence[Series]:
    """Measure how long the next of so many subscriptions takes to be found, claimed and moved.

    There is a database for each count. They are looked at in turns, so that a disturbance of the
    machine meets all.
    """
    async with AsyncExitStack() as opened:
        stores = {each: await _store(opened, bench, name, each) for each in counts}
        found: Mapping[int, list[float]] = {each: [] for each in counts}
        for _ in range(LOOKS):
            for each, store in stores.items():
                found[each].append(await _look(store))
    return [Series(f"{each:,} subscriptions", [], found[each]) for each in counts]


async def _store(opened: AsyncExitStack, bench: Bench, name: str, count: int) -> DueStore:
    """Open a database with so many subscriptions: one is due at each look, all others later."""
    data = bench.directory / f"next-{secrets.token_hex(4)}"
    data.mkdir()
    settings = await opened.enter_async_context(database(bench, name))
    url = settings.get("DATABASE_URL")
    tables = await opened.enter_async_context(Database.open("scheduler", url, data, MIGRATIONS))
    begin = datetime.now(UTC) - timedelta(milliseconds=LOOKS)
    await fill(tables, count, begin, timedelta(milliseconds=1))
    return DueStore(tables, Leases(timedelta(days=1)), _clock_at(begin))


def _clock_at(begin: datetime) -> Callable[[sa.Connection], sa.ColumnElement[int]]:
    """Return a clock at which one subscription is due, and after each look one more."""
    readings = itertools.count()  # two a look: for what is due, and as it is taken
    at = milliseconds(begin)

    def clock(_: sa.Connection) -> sa.ColumnElement[int]:
        return sa.bindparam("at", callable_=lambda: at + next(readings) // 2, type_=sa.BigInteger)

    return clock


async def _look(store: DueStore) -> float:
    begun = time.perf_counter()
    keys = await store.find_due()
    taken = await store.take(dict.fromkeys(keys, 1))
    (one,) = taken.subscriptions
    following = one.period + timedelta(days=365)
    await store.move(taken.token, [Step(one, one.period, following, following)])
    return time.perf_counter() - begun


async def lateness(bench: Bench, name: str, count: int, seconds: float) -> Series:
    """Measure how late mails for later are published whose times are spread over some seconds.

    They are as `POST /v1/messages` makes them, and a sender's queue is where they arrive.
    """
    data = bench.directory / f"later-{secrets.token_hex(4)}"
    data.mkdir()
    late, done = dict[str, float](), asyncio.Event()

    async def arrive(command: SendEmail) -> Sequence[Contract]:
        late[command.id] = time.time() - due[command.id].timestamp()
        if len(late) == count:
            done.set()
        return ()

    owners = (Owner.SCHEDULER, Owner.SENDER)
    arrivals = Subscription(sending_queue(Category.TRANSACTIONAL), {SendEmail: arrive}, 200)
    async with (
        Vhost.opened(bench, owners) as vhost,
        database(bench, name) as settings,
        vhost.running("scheduler", data, **settings, **_OWN),
        vhost.broker.consuming(arrivals),
        asyncio.timeout(_RELEASE_SECONDS),
    ):
        # The mails are kept meanwhile, a thousand in a few seconds.
        first = datetime.now(UTC) + timedelta(seconds=5 + count / 300)
        due = {
            f"later-{number}": first + timedelta(seconds=seconds * number / count)
            for number in range(count)
        }
        await vhost.publish(
            mail.command(each, mail.recipient(number)).model_copy(update={"scheduled_at": at})
            for number, (each, at) in enumerate(due.items())
        )
        await done.wait()
    return Series(f"{count:,} in {seconds:g} s", [count / seconds], [*late.values()])


async def lateness_lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure mails for later in each database; yield tables and verdicts."""
    for name in plan.databases:
        yield f"\nmails for later in {name}, from their time to a sender's queue; {load_average()}"
        idle = await lateness(bench, name, *IDLE_LATER)
        busy = await lateness(bench, name, plan.due // 2, MINUTE_SECONDS)
        yield report.table("mails/s", [busy, idle])
        for each in (idle, busy):
            yield report.soon(each, MAX_LATE_SECONDS)


async def lines(bench: Bench, plan: BenchPlan) -> AsyncIterator[str]:
    """Measure each database; yield tables and verdicts."""
    for name in plan.databases:
        yield f"\n{plan.due:,} subscriptions due at once in {name}; {load_average()}"
        found = [await released(bench, name, plan.due) for _ in range(plan.repetitions)]
        series = Series("from the claim to the confirm", [each.rate for each in found])
        yield report.table("subscriptions/s", [series])
        yield report.at_least(series, WANTED_RATES[name])
        yield (
            f"  {min(each.processor for each in found) * 1e6:.0f} µs of processor time each,"
            f" {max(each.memory for each in found) / 1e6:.0f} MB of memory at most"
        )
        few, many = await finding(bench, name, (FEW, plan.known))
        yield f"\nthe next one found in {name}, claimed and moved on; {load_average()}"
        times = {each.name: median(each.latencies) * 1000 for each in (few, many)}
        yield report.aligned([["", "ms"], *([key, f"{value:.2f}"] for key, value in times.items())])
        dearer = times[many.name] / times[few.name] - 1
        verdict = report.REACHED if dearer <= MAX_DEARER_SHARE else report.MISSED
        yield f"  {dearer:+.0%} with many; {MAX_DEARER_SHARE:.0%} are allowed: {verdict}"
