"""Mails of real programs at the submission door of a stack: they arrive as they were sent."""

import asyncio
import os
import shutil
import smtplib
import ssl
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from benchmarks import postfix
from benchmarks.bench import Bench
from ops.broker import BrokerAddress, BrokerPorts
from ops.stack.settings import certificate
from tests.journeys.stack import Stack, running
from tests.journeys.user import User
from tests.processes import started
from tests.waiting import until

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

SENDER = "ann@shop.example"
HEAD = f"From: Ann <{SENDER}>\r\nTo: you@x.example\r\nDate: Sun, 29 Nov 2026 12:00:00 +0000\r\n"
OCTETS = bytes(octet for octet in range(1, 256) if octet not in b"\r\n")
ICAL = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"


def built(fill: Callable[[EmailMessage], object], policy: Any = SMTP) -> bytes:  # noqa: ANN401 -- a policy
    """Return a mail of the standard library, without its Message-ID."""
    mail = EmailMessage(policy=policy)
    mail["From"], mail["To"] = f"Ännchen <{SENDER}>", "you@x.example"
    mail["Subject"], mail["Date"] = "Grüße an alle " * 10, "Sun, 29 Nov 2026 12:00:00 +0000"
    fill(mail)
    return bytes(mail)


def alternative(mail: EmailMessage) -> None:
    """Add a text, HTML with an image, an invitation, and files with odd names."""
    mail.set_content("Grüße\n.\n..\n")
    mail.add_alternative("<p>Grüße <img src='cid:logo'>", subtype="html")
    html = list(mail.iter_parts())[1]
    assert isinstance(html, EmailMessage)
    html.add_related(b"\x89PNG\x00", "image", "png", cid="<logo>")
    mail.add_alternative(ICAL, subtype="calendar", params={"method": "REQUEST"})
    mail.add_attachment(b"\x00\xff" * 100, "application", "pdf", filename="Rechnung für Jürgen.pdf")
    mail.add_attachment("é" * 300, filename="x" * 200 + ".txt")


DJANGO = """
import sys
import django.conf
from django.core.mail import EmailMultiAlternatives, get_connection
django.conf.settings.configure(USE_I18N=False)
port, user, password, to = sys.argv[1:]
mail = EmailMultiAlternatives("Grüße", "Hallo\\n", "ann@shop.example", [to], bcc=["b" + to])
mail.attach_alternative("<p>Hallo ä" * 300, "text/html")
mail.attach("für alle.txt", "ä", "text/plain")
message = mail.message()  # Django writes another Date and Message-ID each time
mail.message = lambda: message
get_connection(
    "django.core.mail.backends.smtp.EmailBackend",
    host="127.0.0.1", port=int(port), username=user, password=password, use_tls=True,
).send_messages([mail])
sys.stdout.buffer.write(message.as_bytes(linesep="\\r\\n"))
"""

MAILS = {
    "alternative, related, mixed, calendar": built(alternative),
    "8-bit": built(lambda mail: mail.set_content("Grüße\n" * 50, cte="8bit")),
    "SMTPUTF8": built(lambda mail: mail.set_content("hi\n"), SMTPUTF8),
    "long lines": f"{HEAD}Subject: x\r\n\r\n".encode() + b"x" * 998 + b"\r\n",
    "no body": f"{HEAD}Subject: x\r\n\r\n".encode(),
    "odd headers": f"{HEAD}sUBJECT:x\r\nX:\r\nX: =?utf-8?q?=C3=A4?=\r\n\tb\r\n\r\n.\r\n".encode(),
    "octets": f"{HEAD}Subject: x\r\n\r\n".encode() + OCTETS + b"\r\n",
    "RFC 2231": f"{HEAD}Content-Type: a/b; name*0*=utf-8''%C3%A4; name*1=b\r\n\r\nx\r\n".encode(),
}


@dataclass(frozen=True)
class Way:
    """The way into a stack: its ports, its client and its certificate."""

    stack: Stack

    @property
    def login(self) -> tuple[str, str]:
        """The client's id and key."""
        record = self.stack.record
        return record["client_id"], record["client_key"]

    @property
    def authority(self) -> Path:
        """The file of the certificate that signs itself."""
        return certificate(self.stack.run_dir)[0]

    def send(self, mail: bytes, *to: str, tls: bool = False) -> str:
        """Hand a mail over by smtplib; return the last reply. Raises SMTPException, OSError."""
        record, context = self.stack.record, ssl.create_default_context(cafile=self.authority)
        if tls:
            client: smtplib.SMTP = smtplib.SMTP_SSL(
                "127.0.0.1", record["submission_tls_port"], context=context, timeout=30
            )
        else:
            client = smtplib.SMTP("127.0.0.1", record["submission_port"], timeout=30)
        with client:
            if not tls:
                client.starttls(context=context)
            client.login(*self.login)
            head = mail.partition(b"\r\n\r\n")[0]
            options = ["BODY=8BITMIME", *(["SMTPUTF8"] if not head.isascii() else [])]
            client.command_encoding = "utf-8"
            client.mail(SENDER, options)
            for each in to:
                client.rcpt(each)
            code, reply = client.data(mail)
            assert code == 250, reply
            return reply.decode()


def identified(mail: bytes) -> tuple[bytes, str]:
    """Return a mail with a Message-ID of its own, and an address of its own."""
    name = uuid.uuid4().hex
    return f"Message-ID: <{name}@shop.example>\r\n".encode() + mail, f"{name}@x.example"


async def arrived(user: User, to: str) -> bytes:
    """Wait for the one mail to an address, and return its octets."""
    (mail,) = await user.wait_for_mails(to, within=60)
    return await user.source(mail)


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("mail", MAILS.values(), ids=MAILS)
async def test_smtplib(stack: Stack, user: User, mail: bytes, tls: bool) -> None:  # noqa: FBT001 -- drawn
    """A mail arrives octet by octet, and the books know it by the id of the reply."""
    mail, to = identified(mail)

    reply = await asyncio.to_thread(Way(stack).send, mail, to, tls=tls)

    assert await arrived(user, to) == mail
    path = f"/v1/messages/{reply.split()[-1]}"

    async def delivered() -> bool:
        answer = await user.ask("GET", path)
        return answer.status == 200 and answer.body["recipients"][0]["status"] == "delivered"

    await until(delivered)


async def test_twice(stack: Stack, user: User) -> None:
    """The same mail handed over twice is one mail; to another recipient it is another."""
    mail, to = identified(MAILS["8-bit"])

    replies = [await asyncio.to_thread(Way(stack).send, mail, to) for _ in range(2)]
    await asyncio.to_thread(Way(stack).send, mail, f"other-{to}")

    assert replies[0] == replies[1]
    await arrived(user, f"other-{to}")
    assert await arrived(user, to) == mail


async def test_private_fields(stack: Stack, user: User) -> None:
    """Bcc and our own fields are read and do not arrive; Date and Message-ID are added."""
    _, to = identified(b"")
    mail = (
        b"Bcc: eve@x.example\r\nX-Postrider-Category: bulk\r\nFrom: ann@shop.example\r\n\r\nHi\r\n"
    )

    await asyncio.to_thread(Way(stack).send, mail, to)

    lines = (await arrived(user, to)).split(b"\r\n")
    assert lines[2:] == [b"From: ann@shop.example", b"", b"Hi", b""]
    assert [line.partition(b":")[0] for line in lines[:2]] == [b"Date", b"Message-ID"]


async def test_django(stack: Stack, user: User) -> None:
    """A mail of Django's mailer arrives as Django has written it."""
    way, (_, to) = Way(stack), identified(b"")
    arguments = (str(stack.record["submission_port"]), *way.login, to)
    trust = {**os.environ, "SSL_CERT_FILE": str(way.authority)}
    async with started("-c", DJANGO, *arguments, env=trust, stdout=subprocess.PIPE) as process:
        written, _ = await process.communicate()
        assert process.returncode == 0

    assert await arrived(user, to) == written
    assert await arrived(user, f"b{to}") == written


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not installed")
async def test_swaks(stack: Stack, user: User, tmp_path: Path) -> None:
    """A mail of swaks arrives as its file has it."""
    mail, to = identified(MAILS["octets"])
    (tmp_path / "mail").write_bytes(mail.removesuffix(b"\r\n"))
    name, key = Way(stack).login
    server = f"127.0.0.1:{stack.record['submission_port']}"

    await asyncio.to_thread(
        subprocess.run,
        [
            *("swaks", "--server", server, "--tls", "--auth-user", name, "--auth-password", key),
            *("--tls-verify", "--tls-ca-path", str(stack.run_dir / "certificate.pem")),
            *("--from", SENDER, "--to", to, "--data", f"@{tmp_path}/mail", "--hide-all"),
        ],
        check=True,
        timeout=60,
    )

    assert await arrived(user, to) == mail


@pytest.fixture
async def smarthost(stack: Stack) -> AsyncIterator[int]:
    """Run a Postfix that hands all its mail over; yield its port."""
    way = Way(stack)
    next_hop = f"[127.0.0.1]:{stack.record['submission_port']}"
    settings = {
        "relayhost": next_hop,
        "smtp_sasl_auth_enable": "yes",
        "smtp_sasl_password_maps": f"inline:{{ {{ {next_hop} = {':'.join(way.login)} }} }}",
        "smtp_sasl_security_options": "noanonymous",
        "smtp_tls_security_level": "encrypt",
        "smtputf8_enable": "yes",
        "smtpd_recipient_restrictions": "permit_mynetworks,reject",
    }
    with TemporaryDirectory(prefix="postrider-postfix-") as name:
        home = Path(name)
        os.chmod(home, 0o755)  # noqa: PTH101, S103 -- Postfix reads it when it has given up root
        async with postfix.serving(
            Bench(home, BrokerAddress(BrokerPorts(0, 0, 0, 0), "")), settings
        ) as (server, _):
            yield server.port


@pytest.mark.postfix
async def test_postfix(smarthost: int, user: User) -> None:
    """A mail that Postfix hands over arrives with its Received in front, and nothing else new."""
    for mail, to in map(identified, MAILS.values()):

        def send(mail: bytes = mail, to: str = to) -> None:
            with smtplib.SMTP("127.0.0.1", smarthost, timeout=30) as client:
                client.ehlo()
                client.command_encoding = "utf-8"
                utf8 = not mail.partition(b"\r\n\r\n")[0].isascii()
                client.mail(SENDER, ["BODY=8BITMIME", *(["SMTPUTF8"] if utf8 else [])])
                client.rcpt(to)
                assert client.data(mail)[0] == 250

        await asyncio.to_thread(send)
        received = await arrived(user, to)

        assert received.startswith(b"Received: from ")
        assert received.endswith(b"\r\n" + mail)
        assert received.count(b"\r\nReceived:") == 0


async def test_kill(run_directory: Path) -> None:
    """Kill -9 of inbound while mails are handed over: each arrives once, whatever was answered."""
    with running(run_directory / "killed") as stack:
        async with User.of(stack.record) as user:
            way, mails = Way(stack), [identified(MAILS["8-bit"]) for _ in range(60)]
            left = asyncio.Semaphore(6)

            async def persist(mail: bytes, to: str) -> None:
                async with left:
                    while True:
                        try:
                            await asyncio.to_thread(way.send, mail, to)
                        except (OSError, smtplib.SMTPException, AssertionError):
                            await asyncio.sleep(0.05)
                        else:
                            return

            sending = asyncio.gather(*(persist(*each) for each in mails))
            for _ in range(4):
                await user.wait_until_ready("inbound")
                seen = len(await _all(user, mails))

                async def more(before: int = seen) -> bool:
                    return len(await _all(user, mails)) > before or sending.done()

                await until(more)
                await stack.kill("inbound")
            await sending
            for mail, to in mails:
                assert await arrived(user, to) == mail


async def _all(user: User, mails: Sequence[tuple[bytes, str]]) -> set[str]:
    """Return the addresses of mails that have arrived."""
    return {to for _, to in mails if await user.mails(to)}
