"""`ops ledger` beside a real ledger, and `ops forget`, on a real broker."""

import argparse
import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ops import books, ledger
from ops.books import Books
from ops.ledger import Auditor
from services.ledger import service
from services.ledger.config import LedgerSettings
from shared import topology
from shared.broker import Broker
from shared.contracts import (
    Category,
    Contract,
    EmailBounced,
    EmailDelivered,
    ForgetAddress,
    SendEmail,
)
from shared.rabbitmq import declare
from tests.ledger.books import ADA, BOB, event
from tests.ops import dying
from tests.ops.dying import QUEUE, fail, handled, refuse, settled
from tests.sender.senders import SUPPRESSION_KEY
from tests.serving import serving
from tests.tap import depth, publish_raw
from tests.waiting import until

pytestmark = pytest.mark.rabbit

PATIENCE = dict.fromkeys(Category, timedelta(days=1))


@pytest.fixture
async def url(vhost: str, tmp_path: Path) -> AsyncIterator[str]:
    """Run a ledger on all queues; the value is the administrator's URL."""
    await declare(vhost, topology.EXCHANGES, topology.queues(scale=1e-6))
    settings = LedgerSettings(amqp_url=vhost, data_dir=tmp_path, suppression_key=SUPPRESSION_KEY)
    async with serving(service.run, settings):
        yield vhost


def mail(email_id: str, *to: str) -> SendEmail:
    """Return a command that was given just now."""
    return SendEmail(
        id=email_id,
        client="shop",
        category=Category.BULK,
        to=to or (ADA,),
        subject="Hello",
        text="A text",
        created_at=datetime.now(UTC),
    )


async def recorded(url: str, *messages: Contract) -> None:
    """Publish messages and wait until the ledger has taken all of them from its queue."""
    async with Broker.connect(url, "gateway") as broker:
        for each in messages:
            await broker.publish(each)
        auditor = Auditor(broker)
        ids = {getattr(each, "email_id", each.id) for each in messages}
        expected = {each.email_id for each in messages if isinstance(each, EmailDelivered)}

        async def has_all() -> bool:
            found = [(each, await auditor.describe(each)) for each in ids]
            return all(
                answer.email is not None and (name not in expected or answer.history)
                for name, answer in found
            )

        await until(has_all)


async def audited(url: str, queues: Mapping[str, int] | None = None) -> Books:
    """Return the evidence, with numbers of messages that a test knows."""
    async with Broker.connect(url, "ops ledger") as broker:
        since = datetime.now(UTC) - timedelta(days=2)
        return await Auditor(broker).books(since, lambda: queues or {}, 0.0)


def faults(evidence: Books) -> list[str]:
    """Return the faults of the books now."""
    return list(books.faults(evidence, datetime.now(UTC), PATIENCE))


async def run(url: str, *words: str) -> int:
    """Run `ops ledger` with the arguments of a command line."""
    parser = argparse.ArgumentParser()
    ledger.add_arguments(parser)
    arguments = parser.parse_args([*words, "--amqp-url", url])
    return await asyncio.to_thread(ledger.run, arguments)


async def test_the_books_of_all_mails_add_up(url: str) -> None:
    """Mails with outcomes, mails in queues and mails in dead letters are accounted for."""
    await recorded(
        url,
        mail("m-1", ADA, BOB),
        event(EmailDelivered, "m-1", ADA),
        event(EmailBounced, "m-1", BOB),
        mail("m-2"),
        event(EmailDelivered, "m-2", ADA),
    )
    evidence = await audited(url, {QUEUE: 0})

    assert faults(evidence) == []
    assert books.equation(evidence).startswith("3 accepted = 2 delivered + 1 bounced + 0 failed")


async def test_each_mail_that_is_nowhere_is_listed(url: str) -> None:
    """With empty queues a mail without an outcome is lost; one in a dead letter is dead."""
    await handled(url, refuse, 1, dying.mail("m-1"))
    await recorded(url, mail("m-2"), mail("m-3"), event(EmailDelivered, "m-3", ADA))

    evidence = await audited(url)
    on_the_way = await audited(url, {QUEUE: 1, "otp.commands": 7})

    assert evidence.dead == {topology.dead_queue(QUEUE): {("m-1", None)}}
    [fault] = faults(evidence)
    assert fault.startswith("lost: m-2 (client shop, bulk, accepted ")
    assert books.equation(evidence).endswith("1 waiting + 1 dead")
    assert faults(on_the_way) == []
    assert sum(on_the_way.queues.values()) == 1


async def test_a_mail_that_the_ledger_could_not_record_is_listed(url: str) -> None:
    """Each dead letter is a mail without books, also one that no service could decode."""
    await publish_raw(url, topology.LEDGER_MAIL, b'{"id": "m-7"}', "email.send.bulk")
    await settled(url, topology.dead_queue(topology.LEDGER_MAIL), 1)
    await publish_raw(url, QUEUE, b'{"id": "m-8"}', "email.send.bulk")
    await handled(url, fail, 1)

    assert faults(await audited(url)) == [
        f"not in the ledger: {each} (no client), which is in a dead letter"
        for each in ("m-7", "m-8")
    ]


async def test_a_mail_does_not_hide_behind_another_clients(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clients choose ids: a dead letter is its client's, and a message is asked for so."""
    await handled(url, refuse, 1, dying.mail("m-1"))
    async with Broker.connect(url, "gateway") as broker:
        await broker.publish(mail("m-1"))
        auditor = Auditor(broker)

        async def has_both() -> bool:
            return len((await auditor.describe("m-1")).clients) == 2

        await until(has_both)
    evidence = await audited(url)

    assert evidence.dead == {topology.dead_queue(QUEUE): {("m-1", None)}}
    [fault] = faults(evidence)
    assert fault.startswith("lost: m-1 (client shop, ")
    assert await run(url, "message", "m-1") == 1
    error = capsys.readouterr().err
    assert "''" in error
    assert "shop" in error
    assert await run(url, "message", "m-1", "--client", "shop") == 0
    assert "shop" in capsys.readouterr().out


async def test_the_books_add_up_after_a_person_was_forgotten(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Forgotten recipients stay in the sums and are counted; their dead letters are known."""
    await handled(url, refuse, 1, dying.mail("m-1").model_copy(update={"to": (ADA,)}))
    await recorded(
        url,
        mail("m-2", ADA, BOB),
        event(EmailDelivered, "m-2", ADA),
        event(EmailBounced, "m-2", BOB),
    )
    async with Broker.connect(url, "gateway") as broker:
        auditor = Auditor(broker)

        async def is_known() -> bool:
            return (await auditor.describe("m-1")).email is not None

        await until(is_known)
        await broker.publish(ForgetAddress(id="f-1", email=ADA))

        async def forgot() -> bool:
            return (await auditor.describe("m-1")).forgotten

        await until(forgot)
    evidence = await audited(url)

    assert faults(evidence) == []
    assert books.equation(evidence).startswith("2 accepted = 1 delivered + 1 bounced")
    assert ledger._report(evidence, datetime.now(UTC)) == 0
    assert "forgotten: 1 of these recipients\n" in capsys.readouterr().out


async def test_looking_takes_nothing(url: str) -> None:
    """A second check finds the same dead letters."""
    await handled(url, refuse, 1, dying.mail("m-1"))
    await recorded(url, mail("m-2"))

    first, second = await audited(url), await audited(url)

    assert first.dead == second.dead
    assert first.dead != {}


async def test_a_message_is_shown(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The life of a message is text; an unknown one is an error."""
    await recorded(url, mail("m-1"), event(EmailDelivered, "m-1", ADA))

    assert await run(url, "message", "m-1") == 0
    shown = capsys.readouterr().out
    assert await run(url, "message", "-- m-2") == 1
    assert await run(url, "message", "m-2") == 1
    _, error = capsys.readouterr().err.splitlines()

    assert "ada@one.example: delivered" in shown
    assert "attempt 1  delivered; 250" in shown
    assert error == "the ledger has no message m-2"


async def test_without_a_ledger_the_command_says_so(
    vhost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error is one line, and the exit code is 1."""
    await declare(vhost, topology.EXCHANGES, [])

    assert await run(vhost, "message", "m-1") == 1
    assert capsys.readouterr().err.count("\n") == 1


async def forget(url: str, email: str) -> int:
    """Run `ops forget`."""
    arguments = argparse.Namespace(amqp_url=url, email=email)
    return await asyncio.to_thread(ledger.forget, arguments)


async def test_each_service_is_asked_to_forget(
    vhost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The request is kept for each service that knows addresses, and the command says for what."""
    await declare(vhost, topology.EXCHANGES, topology.queues())

    assert await forget(vhost, "Ada@one.example") == 0
    for queue in (topology.LEDGER_COMMANDS, topology.SENDER_ADDRESSES, topology.OTP_COMMANDS):
        assert await depth(vhost, queue) == 1
    assert "the broker keeps the request" in capsys.readouterr().out


async def test_a_person_that_cannot_be_forgotten_is_reported(
    vhost: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broker without the queues is one line and an exit code."""
    assert await forget(vhost, "ada@one.example") == 1
    assert len(capsys.readouterr().err.splitlines()) == 1
