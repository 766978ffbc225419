"""Cancelled mails, in both databases."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from services.sender import tables
from services.sender.claims import CANCELLED, mail_key
from services.sender.handlers import StopHandlers
from services.sender.mail.compose import OutgoingMail
from services.sender.outcome import NotAttempted, Replies, Unsendable
from services.sender.stops import CancellingCounts, StopStore
from services.sender.store import LATE_COMMAND_SECONDS, LOOK_AGAIN_SECONDS, ClaimStore
from services.sender.tables import claims
from shared.contracts import (
    CancelEmail,
    Contract,
    EmailCancelled,
    EmailCancelling,
    EmailDelivered,
    ForgetAddress,
    SendEmail,
    Stage,
)
from shared.replies import reply as replies
from shared.storage.database import Database
from tests.clock import Clock, Watch
from tests.databases import has_log
from tests.sender.commands import a_command, outcomes
from tests.sender.senders import HASHER, Relay, a_sender, kinds
from tests.sender.test_stops import ANNA, BEN, BUSY, EVE, stopped

AT_ONCE = 60  # mails that are claimed and cancelled at the same time


async def cancel(
    handlers: StopHandlers, email_id: str = "mail-1", client: str | None = None
) -> Contract:
    """Ask to cancel a mail."""
    question = CancelEmail(id="q", email_id=email_id, client=client)
    (answer,) = await handlers.on_cancel_email(question)
    return answer


async def test_cancelled_before_it_comes(store: ClaimStore, handlers: StopHandlers) -> None:
    """A cancellation is kept until the mail comes; the mail then ends for each recipient."""
    answer = await cancel(handlers)
    relay = Relay()

    returned = await a_sender(relay, store).on_send_email(a_command(ANNA, BEN))

    assert answer == EmailCancelling(id="q", waiting=0, undecided=0, ended=0, cancelled=0)
    assert (kinds(returned), relay.mails) == ([EmailCancelled, EmailCancelled], [])
    again = await cancel(handlers)
    assert again == EmailCancelling(id="q", waiting=0, undecided=0, ended=0, cancelled=2)


async def test_cancelled_by_another_client(store: ClaimStore, handlers: StopHandlers) -> None:
    """A client cancels none but its own mail."""
    await cancel(handlers, client="other")

    assert await stopped(store, a_command(client="shop")) == {}


async def test_cancelled_during_an_attempt(store: ClaimStore, stops: StopStore) -> None:
    """The answer counts recipients of an attempt, those with an outcome, and those that wait."""
    command = a_command(ANNA, BEN, EVE)
    claim = await store.claim(command)
    accepted = replies.received(Stage.DOT, 250, "2.0.0 Queued")
    await store.settle(claim, outcomes(command, accepted, ANNA))
    await store.give_back(claim)
    await store.claim(command.model_copy(update={"pending": (BEN,)}))

    assert await stops.cancel(mail_key(command)) == CancellingCounts(
        waiting=1, undecided=1, ended=1
    )


async def test_cancelled_while_deferred(store: ClaimStore, stops: StopStore) -> None:
    """A deferred mail ends at its next attempt."""
    await a_sender(Relay(BUSY), store).on_send_email(a_command())
    answer = await stops.cancel("mail-1")

    returned = await a_sender(Relay(), store).on_send_email(a_command(attempt=2))

    assert (answer, kinds(returned)) == (CancellingCounts(waiting=1), [EmailCancelled])


async def test_cancelled_and_claimed_at_once(
    store: ClaimStore, replica: ClaimStore, other_stops: StopStore, stops: StopStore
) -> None:
    """When two senders claim and cancel a mail at once, one of them sees the other."""
    commands = [a_command(ANNA, BEN, id=f"mail-{number}") for number in range(AT_ONCE)]

    async def claim(which: ClaimStore, command: SendEmail) -> tuple[bool, int]:
        made = await which.claim(command)
        return bool(made.stops), len(made.ours)

    work = [
        part
        for number, each in enumerate(commands)
        for part in (
            claim((store, replica)[number % 2], each),
            (other_stops, stops)[number % 3 % 2].cancel(each.id),
        )
    ]
    done = await asyncio.gather(*work)

    for (is_stopped, ours), answer in zip(done[::2], done[1::2], strict=True):
        assert ours == 2
        assert answer == CancellingCounts(undecided=0 if is_stopped else 2), (is_stopped, answer)


class BusyRelay(Relay):
    """A relay with one connection, for which the mails wait, claimed, and look again at the end.

    The second mail stays in its transaction until `freed`.
    """

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch
        self.connection = asyncio.Lock()
        self.freed = asyncio.Event()

    async def send(self, mail: OutgoingMail) -> Replies | Unsendable | NotAttempted:
        """Return the reply for each recipient, once the mails before have theirs."""
        async with self.connection:
            self.watch.now += LOOK_AGAIN_SECONDS + 0.01
            await mail.progress.check(mail.recipients)
            if self.mails:
                self.begun.set()
                await self.freed.wait()
            return await super().send(mail)


async def test_what_a_busy_sender_answers(
    each_database: Database, clock: Clock, watch: Watch, stops: StopStore
) -> None:
    """Of many mails to a slow relay each answer is true, also while attempts end.

    No recipient is counted as ended that ends as cancelled, none as cancelled that is sent to.
    """
    relay = BusyRelay(watch)
    sender = a_sender(relay, ClaimStore(each_database, HASHER, clock=clock, steady=watch))
    names = [f"mail-{number}" for number in range(AT_ONCE)]
    attempts = [sender.on_send_email(a_command(ANNA, BEN, id=name)) for name in names]
    sending = [*map(asyncio.ensure_future, attempts[:-10])]
    answers: list[Sequence[CancellingCounts]] = []
    await relay.begun.wait()
    answers.append(await asyncio.gather(*map(stops.cancel, names)))
    sending += map(asyncio.ensure_future, attempts[-10:])
    relay.freed.set()
    while not all(task.done() for task in sending):
        answers.append(await asyncio.gather(*map(stops.cancel, names)))
    answers.append(await asyncio.gather(*map(stops.cancel, names)))
    ends = [kinds(await task) for task in sending]

    assert Counter(kind for end in ends for kind in end) == {
        EmailDelivered: 4,
        EmailCancelled: 2 * AT_ONCE - 4,
    }
    assert CancellingCounts(undecided=2) in answers[0]
    assert CancellingCounts() in answers[0]
    for end, got in zip(ends, zip(*answers, strict=True), strict=True):
        final = CancellingCounts(**{"ended" if EmailDelivered in end else "cancelled": 2})
        before = {CancellingCounts(undecided=2)}
        if EmailCancelled in end:
            before.add(CancellingCounts())
        assert got[-1] == final
        assert {*got} <= before | {final}
        assert all(each == final for each in got[got.index(final) :])


async def test_purge(
    store: ClaimStore, stops: StopStore, handlers: StopHandlers, clock: Clock
) -> None:
    """A cancellation is forgotten with the claims, after the same time."""
    await cancel(handlers)
    clock.seconds += 100
    early = await stops.purge(101)
    kept = await stopped(store, a_command())

    assert (early, kept) == (0, {ANNA: CANCELLED})
    assert await stops.purge(99) == 1
    assert await stopped(store, a_command(BEN)) == {}


async def test_forgotten(
    store: ClaimStore, handlers: StopHandlers, each_database: Database, clock: Clock
) -> None:
    """The outcomes for a forgotten address are deleted, once no copy of a command needs them."""
    for number, name in enumerate((ANNA, "Anna@x.example", BEN)):
        command = a_command(name, id=f"mail-{number}")
        accepted = replies.received(Stage.DOT, 250, "2.0.0 Queued")
        await store.settle(await store.claim(command), outcomes(command, accepted))
    await store.claim(a_command(ANNA, id="under-way"))
    await handlers.on_forget_address(ForgetAddress(id="f", email=ANNA))
    recent = await each_database.read(lambda c: c.execute(sa.select(claims.c.email_id)).all())
    clock.seconds += LATE_COMMAND_SECONDS + 1
    await handlers.on_forget_address(ForgetAddress(id="f", email=ANNA))
    left = await each_database.read(lambda c: c.execute(sa.select(claims.c.email_id)).all())

    assert len(recent) == 4
    assert sorted(row.email_id for row in left) == ["mail-2", "under-way"]


async def test_forgotten_in_pieces(
    store: ClaimStore, clock: Clock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All claims are searched, piece by piece."""
    monkeypatch.setattr(tables, "PIECE_ROWS", 3)
    for number in range(20):
        command = a_command(ANNA, BEN, id=f"mail-{number:02}")
        accepted = replies.received(Stage.DOT, 250, "2.0.0 Queued")
        await store.settle(await store.claim(command), outcomes(command, accepted))
    clock.seconds += LATE_COMMAND_SECONDS + 1

    assert await store.forget(ANNA) == 20
    assert not has_log(tmp_path)


async def test_letters_of_any_language_are_folded(store: ClaimStore, clock: Clock) -> None:
    """An address is forgotten in any case of its letters, also beyond ASCII."""
    accepted = replies.received(Stage.DOT, 250, "2.0.0 Queued")
    command = a_command("JÖRG@x.example", BEN, id="mail-1")
    await store.settle(await store.claim(command), outcomes(command, accepted))
    clock.seconds += LATE_COMMAND_SECONDS + 1

    assert await store.forget("jörg@x.example") == 1
