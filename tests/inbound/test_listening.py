"""Tests of the doors' TLS: the certificate that a server shows, also after it was renewed."""

import asyncio
import ssl
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import trustme

from services.inbound.listening import certified, listening
from tests.inbound.doors import files_of
from tests.waiting import until


async def test_renewed(authority: trustme.CA, trusting: ssl.SSLContext, tmp_path: Path) -> None:
    """New connections see a renewed certificate; one that cannot be read changes nothing."""
    chain, key = files_of(authority, tmp_path)

    async def shown() -> bytes | None:
        async with AsyncExitStack() as stack:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
            stack.callback(writer.transport.abort)
            tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
            return tls.getpeercert(binary_form=True)

    async def is_another(than: bytes | None) -> bool:
        return await shown() != than

    async with (
        certified(chain, key, seconds=0.01) as context,
        listening(asyncio.Protocol, "127.0.0.1", 0, context) as port,
    ):
        before = await shown()
        chain.write_text("none")
        assert await shown() == before
        files_of(authority, tmp_path)
        await until(partial(is_another, before))


async def test_unreadable(authority: trustme.CA, tmp_path: Path) -> None:
    """A certificate that cannot be read, or that another key belongs to, ends the start."""
    (tmp_path / "other").mkdir()
    chain, _ = files_of(authority, tmp_path)
    _, other = files_of(authority, tmp_path / "other")

    for key in (other, tmp_path / "none"):
        with pytest.raises(OSError, match=r"(?i)mismatch|no such file"):
            async with certified(chain, key, seconds=60):
                pass
