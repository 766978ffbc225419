"""An otp service that halts between counting a guess and comparing it, and says so.

`python -m tests.otp.halting` is the service itself but for that; it never answers a question.
"""

import asyncio
import os
import sys
from collections.abc import Sequence

from services.otp import service
from services.otp.config import OtpSettings
from services.otp.guessing import Guess, GuessDecision
from services.otp.store import ChallengeStore
from shared.delivery import Delivery
from shared.questions import Answering, _Waiting
from shared.runtime import lifecycle
from shared.settling import Receipt

COUNTED = b"counted\n"
_count = ChallengeStore.guess
_turns: set[asyncio.Task[None]] = set()


async def _halt(store: ChallengeStore, guesses: Sequence[Guess]) -> Sequence[GuessDecision]:
    await _count(store, guesses)
    sys.stdout.buffer.write(COUNTED * len(guesses))
    sys.stdout.buffer.flush()
    return await asyncio.Future()


def _take(answering: Answering, message: Delivery, receipt: Receipt) -> None:
    """Give each question a turn of its own, since none ends."""
    task = asyncio.create_task(answering._settle([_Waiting(message, receipt)]))
    _turns.add(task)


if __name__ == "__main__":
    Answering.take = _take  # type: ignore[assignment,method-assign] # as the next
    ChallengeStore.guess = _halt  # type: ignore[assignment,method-assign] # it is what this program is for
    sys.exit(lifecycle.run(service.run, OtpSettings, os.environ))
