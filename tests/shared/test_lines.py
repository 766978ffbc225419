"""Lines: one system call for those of one turn, and none of them is kept back."""

import asyncio
import io

from shared.lines import Lines


class File(io.BytesIO):
    """A file that notes what had been written at each flush."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    def flush(self) -> None:
        """Note it."""
        self.sent.append(self.getvalue())


def log(lines: Lines, line: bytes) -> None:
    """Write a line as a logger does."""
    lines.write(line)
    lines.flush()


def test_lines_of_one_turn_leave_together_at_its_end() -> None:
    """And those of the next turn with the next."""
    file = File()
    lines = Lines(file)

    async def turns() -> None:
        log(lines, b"1")
        log(lines, b"2")
        assert file.sent == []
        await asyncio.sleep(0)
        assert file.sent == [b"12"]
        log(lines, b"3")
        await asyncio.sleep(0)

    asyncio.run(turns())
    assert file.sent == [b"12", b"123"]


def test_without_a_loop_a_line_leaves_at_once() -> None:
    """Before and after the service has run."""
    file = File()
    lines = Lines(file)
    log(lines, b"1")
    log(lines, b"2")

    assert file.sent == [b"1", b"12"]


def test_a_loop_that_stops_in_the_middle_keeps_back_none_of_the_next() -> None:
    """What another loop logs is sent by that one."""
    file = File()
    lines = Lines(file)
    stopped = asyncio.new_event_loop()
    stopped.call_soon(log, lines, b"1")
    stopped.call_soon(stopped.stop)
    stopped.run_forever()
    stopped.close()

    async def turn() -> None:
        log(lines, b"2")
        await asyncio.sleep(0)

    asyncio.run(turn())
    assert file.sent[-1] == b"12"


async def test_a_line_of_another_thread_leaves_at_once() -> None:
    """It has no turn whose end would send it."""
    file = File()
    lines = Lines(file)
    await asyncio.to_thread(log, lines, b"1")

    assert file.sent == [b"1"]
