"""The mails that were not understood, kept as files for a while, so that a person can look."""

import asyncio
import time
import uuid
from pathlib import Path

from services.inbound import metrics

MAX_KEPT_OCTETS = 65_536  # of each


class KeptMails:
    """A folder with the first octets of mails, readable by its owner alone.

    It holds at most `files`, for at most `seconds`; the oldest are deleted first.
    """

    def __init__(self, folder: Path, files: int, seconds: float) -> None:
        self._folder = folder
        self._files = files
        self._seconds = seconds

    async def keep(self, content: bytes) -> None:
        """Write a mail. Raises OSError when the disk is full."""
        await asyncio.to_thread(self._write, content)

    async def purge(self) -> None:
        """Delete what is too old or too much."""
        await asyncio.to_thread(self._purge)

    def _write(self, content: bytes) -> None:
        if not self._files:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # In the order of their names they are in that of time.
        path = self._folder / f"{time.time_ns():020}-{uuid.uuid4().hex[:8]}.eml"
        path.touch(mode=0o600)
        path.write_bytes(content[:MAX_KEPT_OCTETS])
        self._purge()

    def _purge(self) -> None:
        kept = sorted(self._folder.glob(f"{'[0-9]' * 20}-*.eml"))  # others are not ours
        oldest = time.time_ns() - round(self._seconds * 1e9)
        is_old = [int(each.name.partition("-")[0]) < oldest for each in kept]
        gone = max(len(kept) - self._files, sum(is_old))
        for each in kept[:gone]:
            each.unlink(missing_ok=True)
        metrics.KEPT.set(len(kept) - max(gone, 0))
