"""Running a sink and reading its counter."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from benchmarks import drain, sink
from benchmarks.bench import Bench, BenchError
from benchmarks.sink import Discard, Sink, SinkProgram
from ops import ports
from tests.waiting import PATIENCE_SECONDS


@contextmanager
def counting(path: Path, said: str) -> Iterator[Sink]:
    """Return a sink with this output."""
    path.write_text(said)
    yield Sink("test", 0, path)


@pytest.mark.parametrize(
    ("said", "count"),
    [
        ("", 0),
        ("sess=1 quit=0 mesg=7\rsess=2 quit=1 mesg=12\r", 12),
        ("mesg=1\r" * 100 + "mesg=12345\r", 12345),
    ],
)
def test_the_last_count_holds(said: str, count: int, tmp_path: Path) -> None:
    """The counter is a file that grows; its end has the news."""
    with counting(tmp_path / "out", said) as served:
        assert served.count() == count


async def test_every_mail_is_counted(place: Bench) -> None:
    """Every accepted mail is in the count."""
    async with sink.serving(place, sink.own()) as served:
        await drain.send_all(served.port, count=25, connections=3)

        assert served.count() == 25


async def test_the_rate_is_that_of_the_mails_that_were_waited_for(place: Bench) -> None:
    """Mails that were counted before are not in the rate."""
    loop = asyncio.get_running_loop()
    async with sink.serving(place, sink.own()) as served:
        await drain.send_all(served.port, count=25, connections=3)
        begun = loop.time()
        async with place.running("client", [sys.executable, "-m", "http.server", "0"], {}) as idle:
            sending = asyncio.create_task(drain.send_all(served.port, count=10, connections=1))
            rate = await served.reach(35, idle)
            await sending

        assert rate >= 10 / (loop.time() - begun)


async def test_mails_too_many_are_no_measurement(tmp_path: Path) -> None:
    """A mail that was sent twice is found."""
    with counting(tmp_path / "out", "mesg=3\r") as served:
        served.expect(3)
        with pytest.raises(BenchError, match="3 mails at test instead of 2"):
            served.expect(2)


async def test_a_client_that_dies_is_not_waited_for(place: Bench, tmp_path: Path) -> None:
    """Mails that will never come end the measurement."""
    command = [sys.executable, "-c", ""]
    with counting(tmp_path / "out", "mesg=1\r") as served:
        async with (
            place.running("client", command, {}) as client,
            asyncio.timeout(PATIENCE_SECONDS),
        ):
            with pytest.raises(BenchError, match="1 mails did not come"):
                await served.reach(2, client)


async def test_a_sink_that_does_not_start_is_an_error_with_its_output(place: Bench) -> None:
    """The error shows the end of its output."""
    program = SinkProgram("broken", [sys.executable, "-c", "raise SystemExit('no port for you')"])

    with pytest.raises(BenchError, match="no port for you"):
        async with sink.serving(place, program):
            pass


_DIALOGUE = (
    b"EHLO me\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n"
    b"Subject: one\r\n\r\n..dots\r\n. \r\n.\r\nMAIL FROM:<a@b.example>\r\nDATA\r\n.\r\nQUIT\r\n"
)
_REPLIES = ["220", "250-", "250-", "250 ", "250 ", "250 ", "354", "250 ", "250 ", "354", "250 "]


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Serve on a free port and connect."""
    server = await asyncio.get_running_loop().create_server(Discard, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        yield reader, writer
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("piece", [1, 7, len(_DIALOGUE)])
async def test_mails_are_counted_at_their_end(
    piece: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two mails are two, in single octets as in one piece; a dotted line ends none."""
    monkeypatch.setattr(Discard, "mails", 0)

    async with connected() as (reader, writer), asyncio.timeout(PATIENCE_SECONDS):
        for start in range(0, len(_DIALOGUE), piece):
            writer.write(_DIALOGUE[start : start + piece])
            await writer.drain()
        lines = (await reader.read()).decode().splitlines()

    assert [line[: len(start)] for line, start in zip(lines, _REPLIES, strict=False)] == _REPLIES
    assert lines[-1].startswith("221")
    assert capsys.readouterr().out == "mesg=1\rmesg=2\r"


SECONDS = 0.02  # one way


@pytest.fixture
async def far() -> AsyncIterator[int]:
    """Run an echo server that is `SECONDS` away, until all its connections end."""
    talks: set[asyncio.Task[None]] = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data)
        writer.close()
        await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.create_task(echo(reader, writer)))

    target = await asyncio.start_server(accept, "127.0.0.1", 0)
    network = await sink.listen(0, target.sockets[0].getsockname()[1], SECONDS)
    async with target, network, asyncio.timeout(PATIENCE_SECONDS):
        yield network.sockets[0].getsockname()[1]
        await asyncio.gather(*talks)


async def test_an_answer_takes_both_ways(far: int) -> None:
    """It is there after twice the distance, not before."""
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", far)
    begun = loop.time()
    writer.write(b"x")

    assert await reader.read(1) == b"x"
    # A timer may fire by one tick of the clock too early.
    assert loop.time() - begun > 2 * SECONDS - 0.005
    writer.close()
    await writer.wait_closed()


async def test_the_order_is_kept_to_the_end(far: int) -> None:
    """Many pieces and an end arrive as they were sent."""
    pieces = [bytes([number]) * 1000 for number in range(200)]
    reader, writer = await asyncio.open_connection("127.0.0.1", far)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    received = await reader.readexactly(200_000)
    writer.write_eof()

    assert received == b"".join(pieces)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


async def test_an_unreachable_server() -> None:
    """A far port that nobody listens on ends the connection."""
    [nowhere] = ports.unused(1)
    async with await sink.listen(0, nowhere, SECONDS) as network, asyncio.timeout(PATIENCE_SECONDS):
        port = network.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
        with suppress(ConnectionResetError):
            await writer.wait_closed()
