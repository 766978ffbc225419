"""An otp service that halts between counting a guess and comparing it, and prints a line then.

`python -m tests.otp.halting` is the service itself but for that; it never answers a question.
"""

import asyncio
import os
import sys

from services.otp import service
from services.otp.config import OtpSettings
from services.otp.guessing import Guess, GuessDecision
from services.otp.store import ChallengeStore
from shared.runtime import lifecycle

COUNTED = b"counted\n"
_count = ChallengeStore.guess


async def _halt(store: ChallengeStore, guess: Guess) -> GuessDecision:
    await _count(store, guess)
    sys.stdout.buffer.write(COUNTED)
    sys.stdout.buffer.flush()
    return await asyncio.Future()


if __name__ == "__main__":
    ChallengeStore.guess = _halt  # type: ignore[assignment,method-assign] # it is what this program is for
    sys.exit(lifecycle.run(service.run, OtpSettings, os.environ))
