"""Tests of the rates of relays and domains, with the token buckets in a database."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from ops.simulator.simulator import Simulator
from services.sender.outcome import NotAttempted
from services.sender.smtp.rate_limits import Throttle, domain_rate, relay_rate
from services.sender.tables import paces
from shared.contracts import Stage
from shared.errors import Retry
from shared.storage.database import Database
from shared.storage.rate import Rate
from shared.storage.rate_limit import TokenBuckets
from tests.sender.mails import a_mail, a_pool, a_relay, ends, sent

DELIVERED = [(Stage.DOT, 250)]


class CountedBuckets:
    """Token buckets that count how often they are asked."""

    def __init__(self, buckets: TokenBuckets) -> None:
        self._buckets = buckets
        self.asked = 0

    async def take(self, name: str, count: int, room: int, rate: Rate) -> float:
        """Count and ask the real buckets."""
        self.asked += 1
        return await self._buckets.take(name, count, room, rate)


@pytest.fixture
def buckets(each_database: Database) -> CountedBuckets:
    """Return token buckets in a database."""
    return CountedBuckets(TokenBuckets(each_database, paces))


async def test_no_rate(buckets: CountedBuckets) -> None:
    """A mail without a rate is not delayed, and asks no bucket."""
    throttle = Throttle(buckets, {"a": Rate(1)})

    assert [await throttle.wait({"b": 1000}) for _ in range(3)] == [0, 0, 0]
    assert buckets.asked == 0


async def test_held_to_the_rate(buckets: CountedBuckets) -> None:
    """Two senders together keep the rate, and ask for chunks of it, not for each mail."""
    senders = [Throttle(buckets, {"a": Rate(100)}) for _ in range(2)]
    loop = asyncio.get_running_loop()
    begun = loop.time()

    async def send(throttle: Throttle) -> int:
        count = 0
        while loop.time() < begun + 1.5:
            count += not await throttle.wait({"a": 1})
        return count

    count = sum(await asyncio.gather(*map(send, senders)))
    seconds = loop.time() - begun

    assert 0 < count <= 100 * (seconds + 1) + 2 * 50
    # Each chunk is half a second's, and each sender may ask for it in vain before it is there.
    assert buckets.asked <= 3 * 2 * (seconds + 2)


async def test_a_long_wait(buckets: CountedBuckets) -> None:
    """A long wait is reported at once, and the bucket is not asked again before its end."""
    throttle = Throttle(buckets, {"a": Rate(0.01)})

    assert await throttle.wait({"a": 1}) == 0
    assert [60 < await throttle.wait({"a": 1}) <= 100 for _ in range(5)] == [True] * 5
    assert buckets.asked == 2


async def test_a_short_wait(buckets: CountedBuckets) -> None:
    """A short wait is over before `wait` returns."""
    throttle = Throttle(buckets, {"a": Rate(20)})

    assert [await throttle.wait({"a": 1}) for _ in range(30)] == [0] * 30


@pytest.mark.parametrize("rate", [Rate(20), Rate(1)])
async def test_flows_in_turn(buckets: CountedBuckets, rate: Rate) -> None:
    """A flow with hundreds of mails does not use up the tokens of a low rate before another."""
    throttle = Throttle(buckets, {"a": rate})

    async def send(flow: str) -> bool:
        return not await throttle.wait({"a": 1}, flow, patient=True)

    # Those of a burst, and one whose turn it was.
    assert await ahead_of_another(send) <= rate.burst + 1


async def test_clients_in_turn(buckets: CountedBuckets, simulator: Simulator) -> None:
    """The rate of a relay is used by the clients in turn."""
    relay, rate = a_relay(simulator.smtp_port), Rate(5)
    throttle = Throttle(buckets, {relay_rate(relay.name): rate})
    async with a_pool(relay, throttle=throttle) as pool:

        async def send(client: str) -> bool:
            result = await pool.send(replace(a_mail(), client=client))
            return not isinstance(result, NotAttempted)

        assert await ahead_of_another(send) <= rate.burst + 1


async def ahead_of_another(send: Callable[[str], Awaitable[bool]]) -> int:
    """Return how many of one client's 300 mails go before the first mail of another."""
    sent = asyncio.Queue[str]()

    async def insist(flow: str) -> None:
        while not await send(flow):  # noqa: ASYNC110 -- it has no event to await
            await asyncio.sleep(0)  # as through a delay queue, and back at once
        sent.put_nowait(flow)

    big = [asyncio.create_task(insist("big")) for _ in range(300)]
    for _ in range(2):
        await sent.get()
    small = asyncio.create_task(insist("small"))
    count = 0
    while await sent.get() != "small":
        count += 1
    for each in (*big, small):
        each.cancel()
    await asyncio.gather(*big, small, return_exceptions=True)
    return count


async def test_a_flow_has_one_patient_mail(buckets: CountedBuckets) -> None:
    """The mails of a flow that wait long are few: the others go through a delay queue."""
    throttle = Throttle(buckets, {"a": Rate(0.5)})
    assert await throttle.wait({"a": 1}) == 0  # two seconds before the next one
    waits = [throttle.wait({"a": 1}, "flow", patient=True) for _ in range(20)]

    found = await asyncio.gather(*waits)

    assert (found.count(0), found[0]) == (1, 0)


async def test_relay(buckets: CountedBuckets, simulator: Simulator) -> None:
    """A relay gets no more than its rate; another relay takes the rest."""
    async with Simulator() as other:
        slow, fast = a_relay(simulator.smtp_port), a_relay(other.smtp_port)
        throttle = Throttle(buckets, {relay_rate(slow.name): Rate(0.01)})
        async with a_pool(slow, fast, throttle=throttle) as pool:
            assert [await sent(pool) for _ in range(6)] == [DELIVERED] * 6

        assert (len(simulator.mailbox), len(other.mailbox)) == (1, 5)


async def test_domain(buckets: CountedBuckets, simulator: Simulator) -> None:
    """Mail for a domain beyond its rate is put off; mail for other domains is not."""
    throttle = Throttle(buckets, {domain_rate("slow.example"): Rate(0.01)})

    async with a_pool(a_relay(simulator.smtp_port), throttle=throttle) as pool:
        first = await pool.send(a_mail("anna@slow.example"))
        second = await pool.send(a_mail("anna@x.example", "ben@slow.example"))
        third = await pool.send(a_mail("anna@x.example"))

    assert ends(first) == ends(third) == DELIVERED
    assert isinstance(second, NotAttempted)
    assert 60 < second.seconds <= 100


TEN = Rate(10)


async def test_more_than_a_burst(buckets: CountedBuckets) -> None:
    """A mail for very many recipients is sent at once, and the mails after it wait for it."""
    first, second = (Throttle(buckets, {"a": TEN}) for _ in range(2))

    assert await first.wait({"a": 1000}) == 0
    assert 60 < await second.wait({"a": 1}) <= 99.1


async def test_database_away(buckets: CountedBuckets, each_database: Database) -> None:
    """Without its database a mail with a rate is retried later."""
    await each_database.write(paces.drop)

    with pytest.raises(Retry):
        await Throttle(buckets, {"a": TEN}).wait({"a": 1})
