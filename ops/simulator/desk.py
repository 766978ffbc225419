"""Where mails queue for the work between their final dot and the reply."""

import asyncio
from contextlib import nullcontext


class Desk:
    """Serves `places` mails at a time, each for `seconds`, first come first served."""

    def __init__(self, places: int | None, seconds: float) -> None:
        self._places = asyncio.Semaphore(places) if places else None
        self._seconds = seconds

    async def serve(self) -> None:
        """Return when this mail has had its turn."""
        async with self._places or nullcontext():
            if self._seconds:
                await asyncio.sleep(self._seconds)
