"""The mail that is sent again and again, and how fast it is composed.

A text and an HTML form, some 3 KiB together or a multiple of it; composed by ours, also signed,
beside the standard library's `EmailMessage`.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from benchmarks import report
from benchmarks.report import Series
from services.sender.mail.compose import MailDefaults, compose
from services.sender.mail.dkim import DkimKey, DkimSigner
from services.sender.mail.mime import MailContent
from shared.contracts import SendEmail, address

Composer = Callable[[SendEmail], bytes]

SENDER = "Postrider <postrider@bench.example>"
SUBJECT = "Your order has been sent"
_SENTENCE = "Parcel {number} left our house this morning and is on its way to you by rail. "
_SENTENCES_PER_FORM = 17
TEXT = "\n".join(_SENTENCE.format(number=number) for number in range(_SENTENCES_PER_FORM))
HTML = "".join(f"<p>{line}</p>\n" for line in TEXT.splitlines())
DATE = datetime(2026, 1, 1, tzinfo=UTC)
DOMAIN = address.domain_of(address.bare_address(SENDER))
_RSA_BITS = 2048
COMPOSE_SECONDS = 0.5  # a repetition
# By name; the last composer is the baseline.
OURS, SIGNED, LIBRARY = "composer", "composer and RSA signature", "EmailMessage"
TEXTS: Mapping[str, Callable[[str], str]] = {
    "in ASCII": str,
    "with an umlaut in each line": lambda text: text.replace("rail", "Füße"),
}


def command(
    identifier: str, recipient: str, change: Callable[[str], str] = lambda text: text
) -> SendEmail:
    """Return the command for one mail, its texts changed by `change`."""
    text, html = change(TEXT), change(HTML)
    return SendEmail(id=identifier, to=(recipient,), subject=SUBJECT, text=text, html=html)


def repeated(length: int) -> Callable[[str], str]:
    """Return the change by which each text is so many times as long."""
    return lambda text: "\n".join([text] * length)


def ready_made(length: int = 1) -> bytes:
    """Return the octets of such a mail as the sender would send them."""
    return composed(command("ready-made", recipient(0), repeated(length)))


def recipient(number: int) -> str:
    """Return the address of this number."""
    return f"customer-{number}@example.com"


def composers() -> Mapping[str, Composer]:
    """Return what is compared; each makes the octets of a command's mail."""
    key = DkimKey("bench", generate_private_key(65537, _RSA_BITS))
    signer = DkimSigner(DOMAIN, (key,))
    return {
        OURS: composed,
        SIGNED: lambda command: signer.sign(composed(command), DATE),
        LIBRARY: by_library,
    }


def composed(command: SendEmail) -> bytes:
    """Compose the mail as the sender does."""
    content = MailContent(text=command.text, html=command.html)
    return compose(command, content, MailDefaults(SENDER, DOMAIN), DATE).content


def by_library(command: SendEmail) -> bytes:
    """Compose the mail as the library's documentation does."""
    message = EmailMessage(policy=policy.SMTP)
    message["Date"] = DATE
    message["From"] = SENDER
    message["To"] = command.to
    message["Subject"] = command.subject
    message["Message-ID"] = f"<{command.id}@{DOMAIN}>"
    message.set_content(command.text or "")
    message.add_alternative(command.html or "", subtype="html")
    return message.as_bytes()


def measure(command: SendEmail, seconds: float, repetitions: int) -> Sequence[Series]:
    """Measure mails a second of each composer, for so many `seconds`, in turns."""
    rivals = composers()
    rates: Mapping[str, list[float]] = {name: [] for name in rivals}
    for _ in range(repetitions):
        for name, composer in rivals.items():
            rates[name].append(_rate(composer, command, seconds))
    return [Series(name, each) for name, each in rates.items()]


def _rate(composer: Composer, command: SendEmail, seconds: float) -> float:
    count, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        composer(command)
        count += 1
    return count / spent


def lines(repetitions: int) -> Iterator[str]:
    """Measure each text, and yield the tables."""
    for about, change in TEXTS.items():
        made = command("bench", recipient(0), change)
        yield (
            f"\na mail of text and HTML {about}, {len(composed(made)):,} bytes,"
            f" composed on one core, {repetitions} times in turns"
        )
        yield report.table("mails/s", measure(made, COMPOSE_SECONDS, repetitions))
