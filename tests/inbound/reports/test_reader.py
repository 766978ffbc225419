"""Mails are read in a process that what they cost cannot stall or fill."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from services.inbound.reports import reader as readers
from services.inbound.reports.reader import ReportReader, answer, reading
from services.inbound.reports.reading import MailKind, read
from tests.inbound.reports.corpus import EXAMPLES
from tests.inbound.reports.mails import dsn


@pytest.fixture
async def reader() -> AsyncIterator[ReportReader]:
    """Open one process."""
    async with reading(1) as opened:
        yield opened


async def test_it_reads_as_the_pure_code_does(reader: ReportReader) -> None:
    """Each mail of the corpus has the same reading through the process."""
    found = await asyncio.gather(*(reader.read(each.content) for each in EXAMPLES[::7]))

    assert [(each.kind, [*each.blocks]) for each in found] == [
        (here.kind, [*here.blocks]) for here in (read(each.content) for each in EXAMPLES[::7])
    ]


async def test_a_process_that_ends_costs_one_mail(reader: ReportReader) -> None:
    """When the process dies the mail is unreadable, and the next one is read by another."""
    await reader.read(dsn())
    [process] = reader._all
    assert process._process is not None
    process._process.kill()
    await process._process.wait()
    process._process._transport.close()  # type: ignore[attr-defined] # as if it died while it reads

    assert (await reader.read(dsn())).kind is MailKind.DSN


async def test_a_mail_that_takes_too_long_ends_its_process(
    reader: ReportReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mail without a reading in time is unreadable, and the next one is read."""
    await reader.read(dsn())
    with monkeypatch.context() as patch:
        patch.setattr(readers, "MAX_WAIT_SECONDS", 0)
        assert (await reader.read(dsn())).kind is MailKind.UNREADABLE

    assert (await reader.read(dsn())).kind is MailKind.DSN


async def test_a_cancelled_reading_is_nobody_elses(reader: ReportReader) -> None:
    """The answer to a reading that was cancelled is never taken for that of the next mail."""
    cancelled = asyncio.create_task(reader.read(b"Subject: x\r\n\r\nHello\r\n"))
    await asyncio.sleep(0)
    cancelled.cancel()
    await asyncio.wait({cancelled})

    assert (await reader.read(dsn())).kind is MailKind.DSN


def test_half_a_surrogate_is_no_error() -> None:
    """A field with octets of no text has an answer in JSON."""
    assert answer(dsn().replace(b"User unknown", b"User \xff\xed\xa0\x80")).endswith(b"\n")
