"""Reports at a running stack whose inbound is killed: the other server comes again."""

import asyncio
import os
import signal
import smtplib
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.inbound.reports.mails import dsn, recipient_block
from tests.journeys.stack import Stack, fresh_environ, running
from tests.journeys.user import User
from tests.waiting import until

pytestmark = [pytest.mark.journey, pytest.mark.timeout(300)]

DOMAIN = "bounce.localhost.example"


class OtherServer:
    """A mail server that has reports for a stack, and tries again until it is answered."""

    def __init__(self, stack: Stack, user: User) -> None:
        self._stack, self._user = stack, user
        self._port = int(stack.environ["INBOUND_REPORT_PORT"])

    async def mails(self, count: int) -> dict[str, str]:
        """Send mails; return the return path of each that has arrived, by its recipient."""
        names = [f"{uuid.uuid4().hex}@example.org" for _ in range(count)]
        for each in names:
            assert (await self._user.send(each)).status == 202
        arrived = [await self._user.wait_for_mails(each, within=60) for each in names]
        return {each: mails[0]["from"] for each, mails in zip(names, arrived, strict=True)}

    def begun(self, path: str) -> smtplib.SMTP:
        """Open a session and send a report's commands, DATA too. Raises SMTPException, OSError."""
        client = smtplib.SMTP("127.0.0.1", self._port, timeout=30)
        client.ehlo("mx.example")
        client.mail("")
        client.rcpt(path)
        assert client.docmd("DATA")[0] == 354
        return client

    def report(self, recipient: str, path: str) -> None:
        """Send the report of a bounce. Raises SMTPException, OSError, AssertionError."""
        with self.begun(path) as client:
            client.send(bounce(recipient) + b".\r\n")
            assert client.getreply()[0] == 250

    async def persist(self, recipient: str, path: str) -> None:
        """Send a report until it is accepted."""

        async def accepted() -> bool:
            try:
                await asyncio.to_thread(self.report, recipient, path)
            except (OSError, smtplib.SMTPException, AssertionError):
                return False
            return True

        await until(accepted, within=120)

    async def history(self, recipient: str) -> list[str]:
        """Return the states that the books have of a mail's recipient, in their order."""
        found = await self._user.ask("GET", f"/v1/messages?recipient={recipient}")
        [mail] = found.body["messages"]
        described = await self._user.ask("GET", f"/v1/messages/{mail['id']}")
        return [each["status"] for each in described.body["recipients"][0]["history"]]

    async def bounced(self, recipients: list[str]) -> int:
        """Return how many of the mails have bounced by now."""
        histories = [await self.history(each) for each in recipients]
        return sum("bounced" in each for each in histories)

    async def kill(self) -> None:
        """Kill inbound; the stack starts it again."""
        await self._stack.kill("inbound")


def bounce(recipient: str) -> bytes:
    """Return the report that a mailbox is unknown."""
    return dsn(recipient_block(final_recipient=f"rfc822; {recipient}"))


@asynccontextmanager
async def served(run_directory: Path) -> AsyncIterator[tuple[OtherServer, User, Stack]]:
    """Run a stack that sends under return paths."""
    run_dir = run_directory / "reports"
    environ = fresh_environ(run_dir) | {"SENDER_BOUNCE_DOMAIN": DOMAIN}
    with running(run_dir, environ) as stack:
        async with User.of(stack.record) as user:
            yield OtherServer(stack, user), user, stack


async def test_kill(run_directory: Path) -> None:
    """Kill -9 of inbound between DATA and 250: the report comes again, and is in the books once."""
    async with served(run_directory) as (server, user, stack):
        mails = await server.mails(24)
        recipient, path = next(iter(mails.items()))

        # The ledger does not answer, so that inbound has the whole mail and has not replied.
        ledger = stack.pid("ledger")
        os.kill(ledger, signal.SIGSTOP)
        try:
            client = await asyncio.to_thread(server.begun, path)
            client.send(bounce(recipient) + b".\r\n")
            await server.kill()
            with pytest.raises((OSError, smtplib.SMTPException)):
                await asyncio.to_thread(client.getreply)
            client.close()
        finally:
            os.kill(ledger, signal.SIGCONT)
        assert await server.history(recipient) == ["delivered"]

        left = asyncio.Semaphore(3)

        async def persist(recipient: str, path: str) -> None:
            async with left:
                await server.persist(recipient, path)

        sending = asyncio.gather(*(persist(*each) for each in mails.items()))
        for _ in range(3):
            await user.wait_until_ready("inbound")
            before = await server.bounced([*mails])

            async def more(before: int = before) -> bool:
                return await server.bounced([*mails]) > before or sending.done()

            await until(more, within=60)
            await server.kill()
        await sending

        async def all_bounced() -> bool:
            return await server.bounced([*mails]) == len(mails)

        await until(all_bounced, within=60)
        for each in mails:
            assert await server.history(each) == ["delivered", "bounced"]
