"""Confirms: each message gets the word that is its own, once, and nothing is kept for ever."""

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.amqp.confirms import CONFIRM_SECONDS, Confirms, Mark
from shared.amqp.errors import Closed, Nacked, Returned, Unconfirmed

ONE = Mark("m1", "mail.commands", "email.send.bulk")
OTHER = Mark("m2", "mail.commands", "email.send.bulk")


async def test_each_confirm_is_its_own() -> None:
    """In whatever order the broker speaks."""
    under_way = Confirms()
    first, second, third = (under_way.expect(None) for _ in range(3))

    under_way.settle(2, multiple=False, kept=True)
    assert [each.done() for each in (first, second, third)] == [False, True, False]

    under_way.settle(3, multiple=False, kept=False)
    under_way.settle(1, multiple=False, kept=True)
    await first
    with pytest.raises(Nacked):
        await third


async def test_multiple_is_for_all_before() -> None:
    """And for none after; one that was told before keeps its word."""
    under_way = Confirms()
    told, *before, after = (under_way.expect(None) for _ in range(5))
    under_way.settle(1, multiple=False, kept=False)

    under_way.settle(4, multiple=True, kept=True)

    assert [each.result() for each in before] == [None] * 3
    assert not after.done()
    with pytest.raises(Nacked):
        await told


class Story:
    """Confirms beside a plain model of them."""

    def __init__(self) -> None:
        self.under_way = Confirms()
        self.futures: list[asyncio.Future[None]] = []
        self.model: list[str] = []

    def expect(self) -> None:
        """Publish one more."""
        self.futures.append(self.under_way.expect(ONE))
        self.model.append("waits")

    def cancel(self) -> None:
        """Let the last publisher go away."""
        if self.futures and self.futures[-1].cancel():
            self.model[-1] = "cancelled"

    def settle(self, tag: int, multiple: bool, kept: bool) -> None:  # noqa: FBT001 -- drawn
        """Let the broker speak."""
        self.under_way.settle(tag, multiple=multiple, kept=kept)
        for at in range(len(self.model)):
            hit = at < tag if multiple else at == tag - 1
            if hit and self.model[at] == "waits":
                self.model[at] = "kept" if kept else "refused"

    @property
    def words(self) -> list[str]:
        """What the publishers know."""
        return [_word(each) for each in self.futures]


def _word(confirm: asyncio.Future[None]) -> str:
    if not confirm.done():
        return "waits"
    if confirm.cancelled():
        return "cancelled"
    return "refused" if confirm.exception() else "kept"


WORDS = st.tuples(st.integers(0, 25), st.booleans(), st.booleans())


@given(st.lists(WORDS | st.sampled_from(["expect", "cancel"]), max_size=60))
def test_any_story_ends_well(steps: list[tuple[int, bool, bool] | str]) -> None:
    """A message is kept or refused by the first word on it; at the end nobody waits."""

    async def told() -> None:
        story = Story()
        for step in steps:
            if isinstance(step, tuple):
                story.settle(*step)
            else:
                getattr(story, step)()
        assert story.words == story.model

        story.under_way.fail("the end")
        assert "waits" not in story.words
        assert not story.under_way._pending

    asyncio.run(told())


async def test_a_returned_message_is_not_kept() -> None:
    """Its confirm, which follows the return, says only that it was looked at."""
    under_way = Confirms()
    first, second = under_way.expect(ONE), under_way.expect(OTHER)

    under_way.returned(OTHER, "312 NO_ROUTE")
    under_way.settle(2, multiple=True, kept=True)

    await first
    with pytest.raises(Returned, match="NO_ROUTE"):
        await second


async def test_a_return_is_for_the_message_that_must_be_taken() -> None:
    """An event of the same id that may get lost, or goes elsewhere, is not meant."""
    under_way = Confirms()
    event = under_way.expect(None)
    elsewhere = under_way.expect(ONE._replace(exchange="mail.events"))
    by_another_key = under_way.expect(ONE._replace(routing_key="email.send.otp"))
    command = under_way.expect(ONE)

    under_way.returned(ONE, "312 NO_ROUTE")
    under_way.settle(4, multiple=True, kept=True)

    assert [each.result() for each in (event, elsewhere, by_another_key)] == [None] * 3
    with pytest.raises(Returned):
        await command


async def test_one_message_twice_comes_back_twice() -> None:
    """Whoever waits for the second copy is told as well, also when the first has gone."""
    under_way = Confirms()
    first, second = under_way.expect(ONE), under_way.expect(ONE)
    first.cancel()

    under_way.returned(ONE, "312 NO_ROUTE")
    assert not second.done()
    under_way.settle(1, multiple=False, kept=True)
    under_way.returned(ONE, "312 NO_ROUTE")
    under_way.settle(2, multiple=False, kept=True)

    with pytest.raises(Returned):
        await second


async def test_a_return_of_nothing_known_is_nothing() -> None:
    """As of a message whose publisher has been told already that it is late."""
    under_way = Confirms()
    confirm = under_way.expect(OTHER)

    under_way.returned(ONE, "312 NO_ROUTE")
    under_way.settle(77, multiple=False, kept=False)

    assert not confirm.done()
    confirm.cancel()


async def test_the_end_of_the_channel_is_told_to_all() -> None:
    """And to nobody who has gone."""
    under_way = Confirms()
    gone, waiting = under_way.expect(None), under_way.expect(None)
    gone.cancel()

    under_way.fail("cut")

    with pytest.raises(Closed, match="cut"):
        await waiting


class Hours:
    """A loop's clock and timers, moved by hand."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = 1000.0
        self.timers: list[float] = []
        self.create_future = loop.create_future
        self._call: Callable[[], object] = int

    def time(self) -> float:
        """Tell the time."""
        return self.now

    def call_at(self, when: float, call: Callable[[], object]) -> "Hours":
        """Note a timer, the one that is set."""
        self.timers.append(when)
        self._call = call
        return self

    def cancel(self) -> None:
        """Forget the timer."""
        self._call = int

    def move(self, seconds: float) -> None:
        """Let time pass, and the timer that is due by then be rung."""
        self.now += seconds
        if self.timers and self.timers[-1] <= self.now:
            self._call()


@pytest.fixture
async def hours() -> Hours:
    """Give a clock that stands still."""
    return Hours(asyncio.get_running_loop())


def timed(hours: Hours) -> Confirms:
    """Give confirms that go by that clock."""
    under_way = Confirms()
    under_way._loop = hours  # type: ignore[assignment]
    return under_way


async def test_what_is_not_confirmed_is_told_in_time(hours: Hours) -> None:
    """Each at its own deadline, with one timer for all of them."""
    under_way = timed(hours)
    early = under_way.expect(None)
    hours.move(CONFIRM_SECONDS / 2)
    late = under_way.expect(None)
    hours.move(CONFIRM_SECONDS / 2)

    with pytest.raises(Unconfirmed, match="5 s"):
        await early
    assert not late.done()

    hours.move(CONFIRM_SECONDS / 2)
    with pytest.raises(Unconfirmed):
        await late
    assert hours.timers == [1000 + CONFIRM_SECONDS, 1000 + CONFIRM_SECONDS * 1.5]


async def test_a_confirm_that_comes_late_means_nothing(hours: Hours) -> None:
    """It moves no number: the next messages get their own."""
    under_way = timed(hours)
    late = under_way.expect(None)
    hours.move(CONFIRM_SECONDS)
    following = under_way.expect(None)

    under_way.settle(1, multiple=False, kept=True)
    assert not following.done()
    under_way.settle(2, multiple=False, kept=True)

    await following
    with pytest.raises(Unconfirmed):
        await late


async def test_a_broker_that_never_confirms_fills_no_memory(hours: Hours) -> None:
    """What was told to be late is forgotten."""
    under_way = timed(hours)
    for _ in range(50):
        for each in [under_way.expect(ONE) for _ in range(20)]:
            each.cancel()
        hours.move(CONFIRM_SECONDS)

    assert not under_way._pending
    assert all(one < other for one, other in pairwise(hours.timers))


async def test_no_timer_is_left(hours: Hours) -> None:
    """Where all is confirmed the timer ends by itself; where the channel ends it is taken back."""
    under_way = timed(hours)
    under_way.expect(None)
    under_way.settle(1, multiple=False, kept=True)
    hours.move(CONFIRM_SECONDS)
    assert under_way._sweeper is None

    waiting = under_way.expect(None)
    under_way.fail("cut")
    hours.move(CONFIRM_SECONDS)
    with pytest.raises(Closed):
        await waiting
