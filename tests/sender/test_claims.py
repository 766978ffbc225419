"""Tests of the purpose of claims: a mail that is commanded twice is sent once."""

import asyncio
from datetime import datetime, timedelta

import pytest

from ops.simulator.simulator import Simulator
from services.sender.claims import mail_key
from services.sender.handlers import BUSY_SECONDS, SendHandler
from services.sender.mail.compose import OutgoingMail
from services.sender.outcome import NotAttempted, Replies, Unsendable
from services.sender.service import MIGRATIONS
from services.sender.store import ClaimStore
from services.sender.tables import claims as table
from shared.contracts import (
    EmailDeferred,
    EmailDelivered,
    EmailExpired,
    EmailUncertain,
    Outcome,
    SendEmail,
    Stage,
)
from shared.errors import Retry
from shared.replies import reply as replies
from shared.retry import Reschedule
from shared.storage.database import Database
from tests.databases import Opener
from tests.sender.commands import NOW, a_command
from tests.sender.mails import a_pool, a_relay
from tests.sender.senders import HASHER, Broken, Relay, a_sender, kinds, later

ANNA, BEN, EVE = "anna@x.example", "ben@x.example", "eve@x.example"
GREYLISTED = replies.received(Stage.RCPT, 451, "4.7.1 Greylisted")
NO_ROOM = replies.received(Stage.RCPT, 452, "4.5.3 Too many recipients")
AT_ONCE = 30  # mails, each of which two senders are told to send


def test_an_id_is_a_client_s_own() -> None:
    """The same id of two clients, or without a client, is two mails; of one client it is one."""
    clients = ("shop", "bakery", None)
    keys = {mail_key(a_command().model_copy(update={"client": each})) for each in clients}

    assert len(keys) == len(clients)
    assert keys == {mail_key(a_command().model_copy(update={"client": each})) for each in clients}


async def cut_off(sender: SendHandler, relay: Relay, command: SendEmail) -> None:
    """Cancel the handling of a command in the middle."""
    handling = asyncio.create_task(sender.on_send_email(command))
    await relay.begun.wait()
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling


async def test_twice(claims: ClaimStore) -> None:
    """A command that is handled twice is sent once, with the same events both times."""
    relay = Relay()

    first = await a_sender(relay, claims).on_send_email(a_command())
    second = await a_sender(relay, claims, NOW + timedelta(hours=1)).on_send_email(a_command())

    assert len(relay.mails) == 1
    assert first == second


async def test_deferred_twice(claims: ClaimStore) -> None:
    """A copy of a deferred attempt leads to the same next attempt."""
    relay = Relay(special={BEN: GREYLISTED})
    command = a_command(ANNA, BEN)

    first = await a_sender(relay, claims).on_send_email(command)
    second = await a_sender(relay, claims, NOW + timedelta(hours=1)).on_send_email(command)

    assert len(relay.mails) == 1
    assert first == second
    assert kinds(first) == [EmailDelivered, EmailDeferred, Reschedule]
    assert later(first) == [(15, 2, (BEN,))]


async def test_no_room(claims: ClaimStore) -> None:
    """A recipient without room in a transaction is free at once, and comes again uncounted."""
    relay = Relay(special={BEN: NO_ROOM, EVE: NO_ROOM})
    sender = a_sender(relay, claims)

    returned = await sender.on_send_email(a_command(ANNA, BEN, EVE))
    relay.special = {}
    rest = await sender.on_send_email(a_command(ANNA, BEN, EVE, pending=(BEN, EVE)))

    assert kinds(returned) == [EmailDelivered, Reschedule]
    assert later(returned) == [(1, 1, (BEN, EVE))]
    assert kinds(rest) == [EmailDelivered, EmailDelivered]
    assert [mail.recipients for mail in relay.mails] == [(ANNA, BEN, EVE), (BEN, EVE)]


async def test_somebody_else_is_at_it(claims: ClaimStore) -> None:
    """A mail that another sender has claimed is not sent; the same attempt comes again later."""
    relay = Relay()
    await claims.claim(a_command())

    returned = await a_sender(relay, claims).on_send_email(a_command())

    assert relay.mails == []
    assert (kinds(returned), later(returned)) == ([Reschedule], [(BUSY_SECONDS, 1, (ANNA,))])


@pytest.mark.parametrize("expires_at", [None, NOW])
async def test_held(
    claims: ClaimStore, of_the_dead: ClaimStore, expires_at: datetime | None
) -> None:
    """A mail that a dead sender may have sent is uncertain in a class that does not retry those."""
    relay = Relay()
    command = a_command(ANNA, BEN, expires_at=expires_at)
    await of_the_dead.claim(command.model_copy(update={"pending": (ANNA,)}))

    returned = await a_sender(relay, claims, retries_uncertain=False).on_send_email(command)

    assert {item.recipient: type(item) for item in returned if isinstance(item, Outcome)} == {
        ANNA: EmailUncertain,
        BEN: EmailExpired if expires_at else EmailDelivered,
    }
    assert later(returned) == []
    assert [mail.recipients for mail in relay.mails] == ([] if expires_at else [(BEN,)])


async def test_taken_over(claims: ClaimStore, of_the_dead: ClaimStore) -> None:
    """A mail that a dead sender may have sent is sent again by other classes, unless it expired."""
    relay = Relay()
    in_time = a_command()
    late = a_command(id="mail-2", expires_at=NOW)
    for command in (in_time, late):
        await of_the_dead.claim(command)

    sent = await a_sender(relay, claims).on_send_email(in_time)
    held = await a_sender(relay, claims).on_send_email(late)

    assert (kinds(sent), kinds(held)) == ([EmailDelivered], [EmailUncertain])
    assert [mail.recipients for mail in relay.mails] == [(ANNA,)]


async def test_cut_off_early(claims: ClaimStore) -> None:
    """A mail that is cancelled before its content is free at once for the next sender."""
    relay = Relay(held=True)
    await cut_off(a_sender(relay, claims), relay, a_command())

    assert (await claims.claim(a_command())).fresh == (ANNA,)


async def test_cut_off_late(of_the_dead: ClaimStore) -> None:
    """A mail that is cancelled after its content is an orphan for the next sender."""
    relay = Relay(held=True, went=True)
    await cut_off(a_sender(relay, of_the_dead), relay, a_command())

    assert (await of_the_dead.claim(a_command())).orphans == (ANNA,)


async def test_defect(claims: ClaimStore) -> None:
    """A defect before the content does not block the mail."""
    with pytest.raises(ZeroDivisionError):
        await a_sender(Broken(), claims).on_send_email(a_command())

    assert (await claims.claim(a_command())).fresh == (ANNA,)


async def test_no_claim_no_mail(claims: ClaimStore, database: Database) -> None:
    """Without the database nothing is sent, and the command is retried."""
    relay = Relay()
    await database.write(table.drop)

    with pytest.raises(Retry):
        await a_sender(relay, claims).on_send_email(a_command())
    assert relay.mails == []


async def test_not_kept(claims: ClaimStore, database: Database) -> None:
    """An outcome that cannot be kept is published all the same, or its mail would be sent again."""

    class Interrupted(Relay):
        async def send(self, mail: OutgoingMail) -> Replies | Unsendable | NotAttempted:
            await database.write(table.drop)
            return await super().send(mail)

    returned = await a_sender(Interrupted(), claims).on_send_email(a_command())

    assert kinds(returned) == [EmailDelivered]


async def test_two_senders_at_once(open_database: Opener, simulator: Simulator) -> None:
    """Two commands with one id at two senders at once are one mail."""
    commands = [a_command(ANNA, BEN, id=f"mail-{number}") for number in range(AT_ONCE)]
    one, other = [await open_database("sender", MIGRATIONS) for _ in range(2)]
    async with (
        a_pool(a_relay(simulator.smtp_port), connections=4) as pool,
        a_pool(a_relay(simulator.smtp_port), connections=4) as another_pool,
    ):
        senders = (
            a_sender(pool, ClaimStore(one, HASHER)),
            a_sender(another_pool, ClaimStore(other, HASHER)),
            a_sender(pool, ClaimStore(one, HASHER)),
        )
        returned = await asyncio.gather(
            *(sender.on_send_email(command) for command in commands for sender in senders)
        )
        again = [await senders[1].on_send_email(command) for command in commands]

    mails = simulator.mailbox.find()
    assert len(mails) == len({mail.headers["Message-ID"] for mail in mails}) == AT_ONCE
    assert {mail.recipients for mail in mails} == {(ANNA, BEN)}
    ids = [item.id for each in returned for item in each if isinstance(item, EmailDelivered)]
    assert {item.id for each in again for item in each if isinstance(item, Outcome)} == set(ids)
    assert len(set(ids)) == AT_ONCE * 2
