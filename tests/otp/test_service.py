"""The otp service whole, on a real broker: from the command to the mail and the answer."""

import asyncio
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import orjson
import pytest

from services.otp import service
from services.otp.codes import FixedCode
from services.otp.config import OtpSettings
from shared import topology
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import (
    Category,
    CodeIssued,
    CodeRefused,
    CodeUnchecked,
    CodeVerified,
    IssueCode,
    SendEmail,
    VerifyCode,
)
from shared.rabbitmq import declare
from shared.runtime.sealing import Sealer
from tests.otp.halting import COUNTED
from tests.processes import started
from tests.serving import serving
from tests.tap import depth
from tests.waiting import PATIENCE_SECONDS

KEY = "1f" * 32
EMAIL = "anna@example.com"


class Mailbox:
    """A consumer of the sender's queue, as the sender is."""

    def __init__(self) -> None:
        self._mails: asyncio.Queue[SendEmail] = asyncio.Queue()

    async def take(self, mail: SendEmail) -> list[SendEmail]:
        """Handle a mail; nothing is published for it."""
        self._mails.put_nowait(mail)
        return []

    async def code(self) -> str:
        """Wait for a mail and read its code."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            mail = await self._mails.get()
        assert mail.sealed
        opened = orjson.loads(Sealer.from_text(KEY).open(mail.sealed, context=mail.id))
        (code,) = (line for line in opened["text"].splitlines() if line.isdecimal())
        return str(code)

    @property
    def subscription(self) -> Subscription:
        """Return the subscription to the mails of codes."""
        return Subscription(topology.sending_queue(Category.OTP), {SendEmail: self.take}, 4)


@pytest.fixture
def settings(vhost: str, tmp_path: Path) -> OtpSettings:
    """Return the settings of a service in a vhost of its own."""
    return OtpSettings(amqp_url=vhost, data_dir=tmp_path, otp_key=KEY, sealing_key=KEY)


running = partial(serving, service.run)


async def ask(broker: Broker, code: str, request_id: str) -> object:
    """Ask whether a code is right."""
    question = VerifyCode(id=request_id, email=EMAIL, code=code)
    return await broker.ask(question, within=PATIENCE_SECONDS)


async def issue(broker: Broker, command_id: str) -> CodeIssued:
    """Request a code and wait until it is issued."""
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        broker.request_stream(IssueCode(id=command_id, email=EMAIL)) as replies,
    ):
        reply = await replies.get()
    assert isinstance(reply, CodeIssued)
    return reply


@asynccontextmanager
async def connected(settings: OtpSettings) -> AsyncIterator[tuple[Broker, Mailbox]]:
    """Declare the queues, connect as the gateway does, and read the mails as the sender does."""
    await declare(settings.amqp_url, topology.EXCHANGES, topology.queues(scale=0.01))
    mailbox = Mailbox()
    async with (
        Broker.connect(settings.amqp_url, "gateway") as broker,
        broker.consuming(mailbox.subscription),
    ):
        yield broker, mailbox


async def test_from_the_command_to_the_answer(
    settings: OtpSettings, database_url: str | None
) -> None:
    """A code is issued, mailed under a seal and verified once, again for the same request."""
    settings = settings.model_copy(update={"database_url": database_url})
    async with connected(settings) as (broker, mailbox), running(settings):
        issued = await issue(broker, "command-1")
        code = await mailbox.code()
        verified = await ask(broker, code, "request-1")

        assert isinstance(verified, CodeVerified)
        assert verified.challenge_id == issued.challenge_id
        assert isinstance(await ask(broker, code, "request-1"), CodeVerified)
        assert isinstance(await ask(broker, code, "request-2"), CodeRefused)


async def test_a_code_for_testers_is_in_no_queue(settings: OtpSettings) -> None:
    """With a test code a request is answered, no mail is published, and the code is verified."""
    listed = {EMAIL: FixedCode(code="271828", until=datetime.now(UTC) + timedelta(hours=1))}
    settings = settings.model_copy(update={"otp_test_codes": listed})
    await declare(settings.amqp_url, topology.EXCHANGES, topology.queues(scale=0.01))
    async with running(settings), Broker.connect(settings.amqp_url, "gateway") as broker:
        issued = await issue(broker, "command-1")
        verified = await ask(broker, "271828", "request-1")

    assert isinstance(verified, CodeVerified)
    assert verified.challenge_id == issued.challenge_id
    assert await depth(settings.amqp_url, topology.sending_queue(Category.OTP)) == 0


async def test_a_restart_forgets_nothing(settings: OtpSettings) -> None:
    """A code that was mailed before a restart is right after it, and guesses stay counted."""
    async with connected(settings) as (broker, mailbox):
        async with running(settings):
            await issue(broker, "command-1")
            code = await mailbox.code()
            for number in range(4):
                assert isinstance(await ask(broker, "no-code", f"guess-{number}"), CodeRefused)
        async with running(settings):
            assert isinstance(await ask(broker, code, "request-1"), CodeVerified)
            await issue(broker, "command-2")
            assert await mailbox.code()


async def test_commands_wait_for_the_service(settings: OtpSettings) -> None:
    """A command that is published while the service is down is handled after its start."""
    async with connected(settings) as (broker, mailbox):
        await broker.publish(IssueCode(id="command-1", email=EMAIL))
        async with running(settings):
            code = await mailbox.code()
            assert isinstance(await ask(broker, code, "request-1"), CodeVerified)


def halting(settings: OtpSettings) -> AbstractAsyncContextManager[Process]:
    """Run a service that halts before each comparison, as a process; it is killed at the end."""
    environ = {
        "AMQP_URL": settings.amqp_url,
        "DATA_DIR": str(settings.data_dir),
        "DATABASE_URL": settings.database_url or "",
        "OTP_KEY": KEY,
        "SEALING_KEY": KEY,
        "OTP_CLIENT_FAILURES": str(settings.otp_client_failures),
    }
    return started("-m", "tests.otp.halting", env=environ, stdout=PIPE)


async def counted(process: Process, guesses: int) -> None:
    """Wait until so many guesses are counted and halted."""
    assert process.stdout
    async with asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(guesses):
            assert await process.stdout.readline() == COUNTED


@pytest.mark.parametrize(("guesses", "right"), [(4, CodeVerified), (5, CodeRefused)])
async def test_a_kill_gives_no_guess_back(
    settings: OtpSettings, database_url: str | None, guesses: int, right: type[object]
) -> None:
    """Guesses of a service that is killed between counting and comparing stay counted.

    Their questions come again and are answered, and count no more.
    """
    settings = settings.model_copy(update={"database_url": database_url})
    async with connected(settings) as (broker, mailbox), asyncio.TaskGroup() as asked:
        async with halting(settings) as service_:
            await issue(broker, "command-1")
            code = await mailbox.code()
            answers = [
                asked.create_task(ask(broker, "no-code", f"guess-{number}"))
                for number in range(guesses)
            ]
            await counted(service_, guesses)
        async with running(settings):
            assert isinstance(await ask(broker, code, "request-1"), right)
            assert all([isinstance(await answer, CodeRefused) for answer in answers])


async def test_a_kill_forgives_no_failure(settings: OtpSettings, database_url: str | None) -> None:
    """Failures of a client stay counted when the service is killed before the comparison."""
    more = {"database_url": database_url, "otp_client_failures": 3}
    settings = settings.model_copy(update=more)
    async with connected(settings) as (broker, _), asyncio.TaskGroup() as asked:
        async with halting(settings) as service_:
            answers = [
                asked.create_task(ask(broker, "no-code", f"guess-{number}")) for number in range(3)
            ]
            await counted(service_, 3)
        async with running(settings):
            held = await ask(broker, "no-code", "guess-4")
            assert all([isinstance(await answer, CodeRefused) for answer in answers])

    assert isinstance(held, CodeUnchecked)
    assert 24 * 3600 < held.retry_after <= 25 * 3600


async def test_a_kill_loses_no_right_answer(settings: OtpSettings) -> None:
    """A right guess that was counted and not yet compared is verified by the next process."""
    async with connected(settings) as (broker, mailbox), asyncio.TaskGroup() as asked:
        async with halting(settings) as service_:
            await issue(broker, "command-1")
            answer = asked.create_task(ask(broker, await mailbox.code(), "request-1"))
            await counted(service_, 1)
        async with running(settings):
            assert isinstance(await answer, CodeVerified)
