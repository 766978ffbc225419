"""A channel without a connection: what it says is kept, and it hears what a test says."""

import asyncio
from typing import Any

from pamqp import body, commands, frame, header
from pamqp.base import Frame

from shared.amqp import wire
from shared.amqp.channel import Channel

NUMBER = 7  # of the channel


class Line:
    """The connection of one channel: keeps what is said, and says what it is told to."""

    largest_frame = 100

    def __init__(self) -> None:
        self.channel = Channel(self, NUMBER)
        self.said: list[Any] = []
        self.free: list[int] = []

    def write(self, data: bytes) -> None:
        """Keep frames, read by the library."""
        while data:
            used, number, each = frame.unmarshal(data)
            assert number == NUMBER
            self.said.append(each)
            data = data[used:]

    def forget(self, number: int) -> None:
        """Note that a number is free."""
        self.free.append(number)

    def hear(self, *each: Frame | header.ContentHeader | bytes) -> None:
        """Let the broker say something; bytes are a piece of a body."""
        for one in each:
            said = body.ContentBody(one) if isinstance(one, bytes) else one
            for kind, _, payload in wire.Cutter().feed(frame.marshal(said, NUMBER)):
                self.channel.take(kind, payload)

    @property
    def names(self) -> list[str]:
        """The names of all that was said."""
        return [each.name for each in self.said]


async def settled(task: asyncio.Task[Any]) -> None:
    """Let a task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert not task.done()


def head(size: int, **properties: Any) -> header.ContentHeader:  # noqa: ANN401 -- pamqp's
    """Give the header of a body of some size."""
    return header.ContentHeader(0, size, commands.Basic.Properties(**properties))


def delivery(tag: int, consumer: str = f"{NUMBER}.1") -> Frame:
    """Announce a delivery."""
    return commands.Basic.Deliver(consumer, tag, False, "e", "key")  # noqa: FBT003 -- pamqp's
