"""The mail of a code."""

import orjson
import pytest

from services.otp import mail


def test_the_code_is_alone_on_its_line() -> None:
    """Text and HTML have the code on a line of its own, to be found and copied at once."""
    written = mail.compose("012345", 600)

    assert "012345" in written.text.splitlines()
    assert "012345" in written.html.splitlines()


def test_the_mail_says_what_to_know() -> None:
    """The mail says for what the code is, how long it lives and to give it to nobody; no link."""
    written = mail.compose("012345", 600)
    for part in (written.text, written.html):
        assert "confirm your email address" in part
        assert "10 minutes" in part
        assert "Never give it to anyone" in part
        assert "http" not in part


@pytest.mark.parametrize(
    ("seconds", "spoken"),
    [(600, "10 minutes"), (599, "9 minutes"), (119, "1 minute"), (5, "1 minute"), (-5, "1 minute")],
)
def test_the_time_that_is_left(seconds: float, spoken: str) -> None:
    """The time told is what is left, rounded down, and one minute at the least."""
    assert f"within {spoken}." in mail.compose("012345", seconds).text


def test_the_code_is_not_shown_by_accident() -> None:
    """The subject, which is logged everywhere, and the repr of a mail do not have the code."""
    assert "012345" not in mail.SUBJECT
    assert "012345" not in repr(mail.compose("012345", 600))


def test_the_content_is_what_the_sender_reads() -> None:
    """Under the seal is a JSON object with `text` and `html`."""
    written = mail.compose("012345", 600)

    assert orjson.loads(written.encode()) == {"text": written.text, "html": written.html}
