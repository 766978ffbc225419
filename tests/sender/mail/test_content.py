"""Tests of what a mail says."""

import pytest

from services.sender.mail.content import Content, content_of
from shared.runtime.sealing import Sealer
from tests.sender.commands import a_command

SEALER = Sealer([b"k" * 32])


def test_open() -> None:
    """What is not sealed is taken as it is."""
    command = a_command(text="a", html="<b>a</b>")

    assert content_of(command, SEALER.open) == Content(text="a", html="<b>a</b>")


def test_sealed() -> None:
    """What is sealed is opened in the context of the command's id."""
    token = SEALER.seal(b'{"text": "123456", "html": "<b>123456</b>"}', "mail-1")
    command = a_command(text=None, sealed=token)

    assert content_of(command, SEALER.open) == Content(text="123456", html="<b>123456</b>")


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
    """A seal that does not open, or holds no content, is a ValueError without the content."""
    command = a_command(text=None, sealed=token)

    with pytest.raises(ValueError) as caught:  # noqa: PT011 -- libraries raise it too, with texts of their own
        content_of(command, SEALER.open)

    assert "123456" not in str(caught.value)
