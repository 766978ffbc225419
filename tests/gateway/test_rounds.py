"""Asking together."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from services.gateway.rounds import Rounds


class Asked:
    """Answers when the test lets it, and remembers what was asked in each round."""

    def __init__(self, *existing: str) -> None:
        self.existing = set(existing)
        self.rounds: list[list[str]] = []
        self.may_answer = asyncio.Semaphore(0)

    async def __call__(self, items: Collection[str]) -> Mapping[str, bool]:
        """Tell what exists at the time of the answer."""
        self.rounds.append(sorted(items))
        await self.may_answer.acquire()
        if "trouble" in items:
            raise OSError("away")
        return dict.fromkeys(self.existing & set(items), True)


async def begun(*questions: asyncio.Task[bool | None]) -> None:
    """Let every question be put."""
    for _ in range(3):
        await asyncio.wait(questions, timeout=0)


def ask(rounds: Rounds[str, bool], *items: str) -> list[asyncio.Task[bool | None]]:
    """Put questions."""
    return [asyncio.create_task(rounds.get(item)) for item in items]


async def test_what_comes_during_a_round_shares_the_next() -> None:
    """However many ask, at most one round is under way and one waits."""
    asked = Asked("a", "b")
    rounds = Rounds(asked)
    first = ask(rounds, "a")
    await begun(*first)
    later = ask(rounds, "b", "c", "b", "a")
    await begun(*later)
    asked.may_answer.release()
    asked.may_answer.release()

    assert await asyncio.gather(*first, *later) == [True, True, None, True, True]
    assert asked.rounds == [["a"], ["a", "b", "c"]]


async def test_an_answer_is_newer_than_its_question() -> None:
    """Who asks after a change never gets the answer of a round that began before it."""
    asked = Asked("a")
    rounds = Rounds(asked)
    before = ask(rounds, "a")
    await begun(*before)
    after = ask(rounds, "a")
    await begun(*after)
    asked.may_answer.release()
    assert await before[0]

    asked.existing.clear()
    asked.may_answer.release()

    assert not await after[0]


async def test_who_goes_away_leaves_the_others_their_answer() -> None:
    """A cancelled question cancels nothing but itself."""
    asked = Asked("a")
    rounds = Rounds(asked)
    goes, stays = ask(rounds, "a", "a")
    await begun(goes, stays)

    goes.cancel()
    asked.may_answer.release()

    assert await stays


async def test_trouble_reaches_all_of_its_round_and_nobody_else() -> None:
    """After a round that failed the next one is asked."""
    asked = Asked("a")
    rounds = Rounds(asked)
    troubled = ask(rounds, "a", "trouble")
    await begun(*troubled)
    asked.may_answer.release()
    for each in troubled:
        with pytest.raises(OSError, match="away"):
            await each

    asked.may_answer.release()

    assert await rounds.get("a")
