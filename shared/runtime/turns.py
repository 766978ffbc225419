"""Long work in a loop that others want too."""

import asyncio

TURNS = 4  # of the loop: a question's are to be read, handled, answered and sent


async def give_way() -> None:
    """Let others do what they have to; for who has worked for about a millisecond.

    After a single turn whoever needs some of them would wait for such a millisecond at each.
    """
    for _ in range(TURNS):
        await asyncio.sleep(0)
