"""A relay that keeps the mail and delays a reply for as long as a test wants."""

import asyncio
from collections import Counter, defaultdict
from contextlib import AbstractAsyncContextManager, suppress

from tests.sender.scripted import CHUNKING, Server

YES = {
    "CONNECT": b"220 patient.invalid\r\n",
    "DATA": b"354 Go on\r\n",
    "QUIT": b"221 Bye\r\n",
}


class PatientRelay(Server):
    """A server that counts its mails by Message-ID.

    Replies to verbs in `slow` are held back until `answer` is called; `CONNECT` is the greeting,
    `DOT` the end of a mail, by DATA or BDAT, which is kept whatever becomes of the reply. A verb
    that is not slow any more is answered at once, also while earlier replies are held back. With
    `chunking` it offers BDAT.
    """

    def __init__(self) -> None:
        super().__init__()
        self.chunking = False
        self.slow: set[str] = set()
        self.kept: Counter[str] = Counter()
        self._answers: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def answer(self) -> None:
        """Send all replies that were held back, and hold back none from now on."""
        self.slow = set()
        for answer in self._answers.values():
            answer.set()

    def answer_to(self, verb: str) -> None:
        """Send the replies to one verb that were held back."""
        self._answers[verb].set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        chunks = bytearray()
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                await self._reply("CONNECT", writer)
                while True:
                    line = await reader.readuntil(b"\r\n")
                    verb = line.decode().split(maxsplit=1)[0].upper()
                    if verb == "BDAT":
                        chunks += await reader.readexactly(int(line.split()[1]))
                        verb = "DOT" if b"LAST" in line else verb
                    if verb == "DOT":
                        self._keep(bytes(chunks))
                        chunks.clear()
                    await self._reply(verb, writer)
                    if verb == "DATA":
                        self._keep(await reader.readuntil(b"\r\n.\r\n"))
                        await self._reply("DOT", writer)
        finally:
            writer.transport.abort()

    def _keep(self, content: bytes) -> None:
        (message_id,) = (
            line for line in content.split(b"\r\n") if line.startswith(b"Message-ID: <")
        )
        self.kept[message_id.decode().removeprefix("Message-ID: <").partition("@")[0]] += 1

    async def _reply(self, verb: str, writer: asyncio.StreamWriter) -> None:
        self.heard[verb] += 1
        if verb in self.slow:
            await self._answers[verb].wait()
        replies = {**YES, **CHUNKING} if self.chunking else YES
        writer.write(replies.get(verb, b"250 OK\r\n"))


def patient() -> AbstractAsyncContextManager[PatientRelay]:
    """Serve on a free port for the length of the block."""
    return PatientRelay().listening()
