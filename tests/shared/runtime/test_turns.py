"""Long work among others in one loop."""

import asyncio

from shared.runtime import turns


async def test_a_question_is_answered_in_one_pause() -> None:
    """Work that comes up in a pause, and what that leads to, is done before the pause ends."""
    loop = asyncio.get_running_loop()
    done: list[int] = []

    def step(number: int) -> None:
        done.append(number)
        loop.call_soon(step, number + 1)

    loop.call_soon(step, 1)
    await turns.give_way()

    assert done[-1] >= turns.TURNS
