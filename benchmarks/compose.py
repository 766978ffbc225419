"""Composing a mail: ours, also signed, beside the standard library's `EmailMessage`."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from benchmarks import mail
from benchmarks.report import Series
from services.sender.mail.compose import MailDefaults, compose
from services.sender.mail.dkim import DkimKey, DkimSigner
from services.sender.mail.mime import MailContent
from shared.contracts import SendEmail, address

Contender = Callable[[SendEmail], bytes]
Change = Callable[[str], str]

DATE = datetime(2026, 1, 1, tzinfo=UTC)
DOMAIN = address.domain_of(address.bare_address(mail.SENDER))
RSA_BITS = 2048
TEXTS: Mapping[str, Change] = {
    "in ASCII": str,
    "with an umlaut in each line": lambda text: text.replace("rail", "Füße"),
}
# The last is the baseline.
OURS, SIGNED, LIBRARY = "composer", "composer and RSA signature", "EmailMessage"


def a_command(change: Change = str) -> SendEmail:
    """Ask for the mail of all benchmarks, with its texts changed."""
    asked = mail.command("bench", mail.recipient(0))
    return asked.model_copy(update={"text": change(mail.TEXT), "html": change(mail.HTML)})


def contenders() -> Mapping[str, Contender]:
    """Give what is compared; each makes the octets of a command's mail."""
    key = DkimKey("bench", generate_private_key(65537, RSA_BITS))
    signer = DkimSigner(DOMAIN, (key,))
    return {
        OURS: composed,
        SIGNED: lambda command: signer.sign(composed(command), DATE),
        LIBRARY: by_library,
    }


def composed(command: SendEmail) -> bytes:
    """Make the mail as the sender does."""
    content = MailContent(text=command.text, html=command.html)
    return compose(command, content, MailDefaults(mail.SENDER, DOMAIN), DATE).content


def by_library(command: SendEmail) -> bytes:
    """Make the mail as the library's documentation has it."""
    message = EmailMessage(policy=policy.SMTP)
    message["Date"] = DATE
    message["From"] = mail.SENDER
    message["To"] = command.to
    message["Subject"] = command.subject
    message["Message-ID"] = f"<{command.id}@{DOMAIN}>"
    message.set_content(command.text or "")
    message.add_alternative(command.html or "", subtype="html")
    return message.as_bytes()


def measure(command: SendEmail, seconds: float, repetitions: int) -> Sequence[Series]:
    """Let each compose for so many `seconds`, in turns, and give their mails a second."""
    rivals = contenders()
    rates: Mapping[str, list[float]] = {name: [] for name in rivals}
    for _ in range(repetitions):
        for name, contender in rivals.items():
            rates[name].append(_rate(contender, command, seconds))
    return [Series(name, each) for name, each in rates.items()]


def _rate(contender: Contender, command: SendEmail, seconds: float) -> float:
    count, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        contender(command)
        count += 1
    return count / spent
