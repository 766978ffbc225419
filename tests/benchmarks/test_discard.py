"""The sink of our own: it sees where mails end, however their octets arrive."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks.discard import Discard

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

    async with connected() as (reader, writer), asyncio.timeout(10):
        for start in range(0, len(_DIALOGUE), piece):
            writer.write(_DIALOGUE[start : start + piece])
            await writer.drain()
        lines = (await reader.read()).decode().splitlines()

    assert [line[: len(start)] for line, start in zip(lines, _REPLIES, strict=False)] == _REPLIES
    assert lines[-1].startswith("221")
    assert capsys.readouterr().out == "mesg=1\rmesg=2\r"
