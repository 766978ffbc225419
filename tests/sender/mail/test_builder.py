"""Tests of building a mail: unsealed, composed, signed."""

import asyncio
from datetime import timedelta

import pytest

from services.sender.mail.builder import MailBuilder, unseal
from services.sender.mail.compose import MailDefaults
from services.sender.mail.mime import MailContent
from shared.contracts.attachment import MAX_ATTACHED_BYTES
from shared.runtime.sealing import Sealer
from tests.sender.commands import NOW, a_command, a_file
from tests.sender.keys import PUBLIC, SIGNER
from tests.sender.verifier import signatures, verifies

SEALER = Sealer([b"k" * 32])
BUILDER = MailBuilder(
    SEALER.open, MailDefaults("Post <post@our.example>", "id.our.example"), {"our.example": SIGNER}
)


async def test_signed() -> None:
    """A mail from a domain with keys is signed, also when From is the default."""
    for command in (a_command(), a_command(from_="Shop <shop@our.example>", html="<p>ä")):
        content = (await BUILDER.build(command, NOW)).content

        found = signatures(content)
        assert all(verifies(content, *each) for each in zip(found, PUBLIC, strict=True))


async def test_not_signed() -> None:
    """A mail from a domain without keys is not signed, not even from a subdomain of ours."""
    for domain in ("other.example", "sub.our.example"):
        mail = await BUILDER.build(a_command(from_=f"post@{domain}"), NOW)

        assert not signatures(mail.content)


async def test_sealed() -> None:
    """Sealed content is unsealed, and signed like any other."""
    command = a_command(text=None, sealed=SEALER.seal(b'{"text": "123456"}', "mail-1"))

    content = (await BUILDER.build(command, NOW)).content

    assert content.endswith(b"\r\n\r\n123456\r\n")
    assert verifies(content, signatures(content)[0], PUBLIC[0])


async def test_broken_seal() -> None:
    """A broken seal is a ValueError."""
    with pytest.raises(ValueError, match="not here"):
        await BUILDER.build(a_command(text=None, sealed="AAAA"), NOW)


async def test_again() -> None:
    """A later attempt has the same octets, because the command has its time of acceptance."""
    command = a_command(created_at=NOW)

    first = await BUILDER.build(command, NOW)
    second = await BUILDER.build(command, NOW + timedelta(hours=1))

    assert first.content == second.content
    assert signatures(first.content)[0].tags["t"] == str(int(NOW.timestamp()))


async def test_clock() -> None:
    """A publisher whose clock is ahead causes no signature from the future."""
    ahead = a_command(created_at=NOW + timedelta(hours=1))

    content = (await BUILDER.build(ahead, NOW)).content

    assert signatures(content)[0].tags["t"] == str(int(NOW.timestamp()))


async def test_large() -> None:
    """The building of the largest mail does not block others."""
    largest = a_command(attachments=(a_file(octets=bytes(MAX_ATTACHED_BYTES)),))
    writing = asyncio.create_task(BUILDER.build(largest, NOW))
    others = 0

    while not writing.done():
        await BUILDER.build(a_command(id=f"mail-{others}"), NOW)
        others += 1

    content = (await writing).content
    assert others > 1
    assert verifies(content, signatures(content)[0], PUBLIC[0])


def test_open() -> None:
    """Content without a seal is used unchanged."""
    command = a_command(text="a", html="<b>a</b>")

    assert unseal(command, SEALER.open) == MailContent(text="a", html="<b>a</b>")


def test_content_is_unsealed() -> None:
    """A seal is opened in the context of the command's id."""
    token = SEALER.seal(b'{"text": "123456", "html": "<b>123456</b>"}', "mail-1")
    command = a_command(text=None, sealed=token)

    assert unseal(command, SEALER.open) == MailContent(text="123456", html="<b>123456</b>")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "no seal",
        "\xe4",
        SEALER.seal(b'{"text": "123456"}', "mail-2"),
        Sealer([b"j" * 32]).seal(b'{"text": "123456"}', "mail-1"),
        SEALER.seal(b"123456", "mail-1"),
        SEALER.seal(b"{}", "mail-1"),
    ],
    ids=["empty", "no token", "not ASCII", "another mail", "another key", "no JSON", "no content"],
)
def test_does_not_open(token: str) -> None:
    """A broken or empty seal is a ValueError without the content."""
    command = a_command(text=None, sealed=token)

    with pytest.raises(ValueError) as caught:  # noqa: PT011 -- libraries raise it too, with texts of their own
        unseal(command, SEALER.open)

    assert "123456" not in str(caught.value)
