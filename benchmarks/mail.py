"""Pure: the mail that is sent again and again; a text and an HTML form, some 3 KiB together."""

from datetime import UTC, datetime

from services.sender.mail.compose import MailDefaults, compose
from services.sender.mail.mime import MailContent
from shared.contracts import SendEmail

SENDER = "Postrider <postrider@bench.example>"
SUBJECT = "Your order has been sent"
_SENTENCE = "Parcel {number} left our house this morning and is on its way to you by rail. "
_SENTENCES = 17  # in each form
TEXT = "\n".join(_SENTENCE.format(number=number) for number in range(_SENTENCES))
HTML = "".join(f"<p>{line}</p>\n" for line in TEXT.splitlines())


def command(identifier: str, recipient: str) -> SendEmail:
    """Ask for one mail."""
    return SendEmail(id=identifier, to=(recipient,), subject=SUBJECT, text=TEXT, html=HTML)


def ready_made() -> bytes:
    """Give the octets of such a mail as the sender would send them."""
    letterhead = MailDefaults(SENDER, "bench.example")
    content = MailContent(text=TEXT, html=HTML)
    asked = command("ready-made", recipient(0))
    return compose(asked, content, letterhead, datetime(2026, 1, 1, tzinfo=UTC)).content


def recipient(number: int) -> str:
    """Give one of as many addresses as are wanted."""
    return f"customer-{number}@example.com"
