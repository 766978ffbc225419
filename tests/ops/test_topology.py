"""The topology on a real broker, and the least rights of each service's user."""

import argparse
import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import aio_pika
import pytest

from ops import ports
from ops import topology as command
from ops.broker import RabbitServer as Node
from shared import rabbitmq, rights, topology
from shared.broker import Broker
from shared.consumer import Subscription
from shared.contracts import (
    WEBHOOK_CONTRACTS,
    AcceptedEmail,
    Category,
    CodeIssued,
    CodeVerified,
    Contract,
    DescribeDomain,
    DomainClassified,
    DomainDescribed,
    EmailDelivered,
    FeedbackReported,
    ForgetAddress,
    IssueCode,
    Kind,
    SendEmail,
    Sighting,
    Verdict,
    VerifyCode,
)
from shared.errors import Reject, Retry, Unavailable
from shared.topology import Owner
from tests.ops.burglary import REFUSED, Browse, refused
from tests.ops.dying import settled
from tests.proxy import Proxy
from tests.tap import depth, publish_raw
from tests.waiting import PATIENCE_SECONDS
from tests.world import PASSWORDS

pytestmark = pytest.mark.rabbit

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
REPORT = FeedbackReported(
    id="f-1",
    at=MOMENT,
    sightings=(Sighting(id="s-1", domain="example.com", kind=Kind.BOUNCED, at=MOMENT),),
)
ADA = "ada@example.com"
WORK = {
    Owner.SENDER: topology.sending_queue(Category.BULK),
    Owner.OTP: topology.OTP_COMMANDS,
    Owner.CLASSIFIER: topology.EVIDENCE,
    Owner.SCHEDULER: topology.SCHEDULER_MAIL,
    Owner.LEDGER: topology.LEDGER_MAIL,
    Owner.WEBHOOKS: topology.WEBHOOK_COMMANDS,
}

Login = Callable[[Owner], str]


@pytest.fixture
async def login(rabbit: Node, vhost: str) -> Login:
    """Declare the topology, create the users, and return the URL of one of them."""
    await command.declare(vhost, scale=0.01)
    await grant(rabbit, vhost)
    return lambda owner: vhost.replace(account(vhost), f"{owner}:{PASSWORDS[owner]}")


@pytest.fixture(autouse=True)
def no_users_left(rabbit: Node) -> Iterator[None]:
    """Remove the users, which belong to the whole node, not to the test's vhost."""
    yield
    for user in rights.USERS:
        if user.name in users(rabbit):
            rabbit.address.management.request("DELETE", f"/users/{user.name}")


def account(url: str) -> str:
    """Return user and password of a URL."""
    return urlsplit(url).netloc.rpartition("@")[0]


def users(rabbit: Node) -> set[str]:
    """Return the users of the node."""
    listed = rabbit.address.management.request("GET", "/users")
    assert isinstance(listed, list)
    return {each["name"] for each in listed}


async def grant(rabbit: Node, url: str) -> None:
    """Create the users of the running services in the vhost of `url`."""
    address, vhost = rabbit.address, unquote(urlsplit(url).path[1:])
    await command.grant(address.management_url, address.user, address.password, vhost, PASSWORDS)


def mail(category: Category = Category.BULK) -> SendEmail:
    """Return a message of a class."""
    return SendEmail(id=f"m-{category}", category=category, to=(ADA,), subject="s", text="t")


def delivered(email: SendEmail) -> EmailDelivered:
    """Return the sender's event for a message."""
    return EmailDelivered(
        id=f"{email.id}-1",
        at=MOMENT,
        email_id=email.id,
        category=email.category,
        recipient=ADA,
        attempt=1,
    )


@dataclass
class Service:
    """A service with a handler, and the messages that it received."""

    answer: Callable[[Any], Sequence[Contract]]
    taken: asyncio.Queue[Contract] = field(default_factory=asyncio.Queue)

    async def on_message(self, message: Contract) -> Sequence[Contract]:
        """Handle any message."""
        self.taken.put_nowait(message)
        return self.answer(message)

    async def next(self) -> Contract:
        """Wait for the next message."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.taken.get()

    def subscribed(self, queue: str, *contracts: type[Contract]) -> Subscription:
        """Return the subscription of this service to one of its queues."""
        return Subscription(queue, dict.fromkeys(contracts, self.on_message), prefetch=10)


async def test_declaring_again_changes_nothing(vhost: str) -> None:
    """A second declaration keeps the messages in the queues."""
    queue = topology.sending_queue(Category.BULK)
    await command.declare(vhost)
    await publish_raw(vhost, queue, b"{}")

    await command.declare(vhost)

    assert await depth(vhost, queue) == 1


async def test_only_the_queues_of_the_given_owners(vhost: str) -> None:
    """A service that is not deployed has no queue that would fill up."""
    await command.declare(vhost, owners=(Owner.OTP,))

    assert await depth(vhost, topology.OTP_COMMANDS) == 0
    with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity):
        await depth(vhost, topology.EVIDENCE)


async def test_granting_again_changes_nothing(rabbit: Node, vhost: str, login: Login) -> None:
    """A second grant keeps open connections."""
    async with Broker.connect(login(Owner.GATEWAY), "gateway") as broker:
        await grant(rabbit, vhost)

        await broker.publish(mail())

    assert users(rabbit) >= set(Owner)


async def test_no_user_for_a_name_that_is_no_service(rabbit: Node) -> None:
    """An unknown name is refused before anything is created."""
    address = rabbit.address

    with pytest.raises(ValueError, match="postman"):
        await command.grant(
            address.management_url, address.user, address.password, "/", {"postman": "x" * 32}
        )

    assert "postman" not in users(rabbit)


async def test_the_whole_path_with_the_least_rights(vhost: str, login: Login) -> None:
    """The rights of each service are enough for all of its work."""
    sender = Service(lambda email: [delivered(email)])
    otp = Service(
        lambda _: [
            mail(Category.OTP),
            CodeIssued(
                id="i-1",
                at=MOMENT,
                challenge_id="c-1",
                email=ADA,
                expires_at=MOMENT,
                resend_at=MOMENT,
            ),
        ]
    )
    judge = Service(lambda _: [CodeVerified(id="v-1", at=MOMENT, challenge_id="c-1", email=ADA)])
    verdict = {"at": MOMENT, "domain": "example.com", "status": Verdict.UNKNOWN}
    classifier = Service(
        lambda fact: [DomainClassified.model_validate({"id": f"d-{fact.id}", **verdict})]
    )
    ledger, webhooks = Service(lambda _: []), Service(lambda _: [])
    seen = {"id": "q-1", **verdict, "delivered": 7, "bounced": 0}
    oracle = Service(lambda _: [DomainDescribed.model_validate(seen)])

    async with (
        Broker.connect(login(Owner.GATEWAY), "gateway") as gateway,
        Broker.connect(login(Owner.SENDER), "sender") as sending,
        Broker.connect(login(Owner.OTP), "otp") as issuing,
        Broker.connect(login(Owner.CLASSIFIER), "classifier") as judging,
        Broker.connect(login(Owner.LEDGER), "ledger") as recording,
        Broker.connect(login(Owner.WEBHOOKS), "webhooks") as telling,
        telling.consuming(webhooks.subscribed(topology.WEBHOOK_EVENTS, *WEBHOOK_CONTRACTS)),
        recording.consuming(ledger.subscribed(topology.LEDGER_MAIL, AcceptedEmail, EmailDelivered)),
        sending.consuming(
            *(sender.subscribed(topology.sending_queue(each), SendEmail) for each in Category)
        ),
        issuing.consuming(
            otp.subscribed(topology.OTP_COMMANDS, IssueCode),
            judge.subscribed(topology.OTP_QUESTIONS, VerifyCode),
        ),
        judging.consuming(
            classifier.subscribed(topology.EVIDENCE, EmailDelivered, FeedbackReported),
            oracle.subscribed(topology.CLASSIFIER_QUESTIONS, DescribeDomain),
        ),
    ):
        async with gateway.request_stream(mail(Category.TRANSACTIONAL)) as replies:
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert isinstance(await replies.get(), EmailDelivered)
        await gateway.publish(mail(Category.BULK))
        await gateway.publish(IssueCode(id="i-0", email=ADA))
        await gateway.publish(REPORT)
        verified = await gateway.ask(VerifyCode(id="v-0", email=ADA, code="123456"), within=60)
        described = await gateway.ask(DescribeDomain(id="q-0", domain="example.com"), within=60)
        sent = [await sender.next() for _ in Category]
        facts = [await classifier.next() for _ in range(4)]
        records = [await ledger.next() for _ in (*sent, *sent)]
        await settled(vhost, topology.WEBHOOK_EVENTS, 0)

    assert isinstance(verified, CodeVerified)
    assert isinstance(described, DomainDescribed)
    assert {email.id for email in sent} == {f"m-{each}" for each in Category}
    assert {fact.id for fact in facts} == {"f-1", *(f"m-{each}-1" for each in Category)}
    assert {record.id for record in records} == {email.id for email in sent} | {
        f"{email.id}-1" for email in sent
    }
    for queue in topology.queues():
        assert await depth(vhost, queue.name) == 0


@pytest.mark.parametrize("owner", WORK)
async def test_own_messages_are_delayed_and_dead_lettered(
    vhost: str, login: Login, owner: Owner
) -> None:
    """A service can publish to the delays and to its dead letters."""
    queue, seen = WORK[owner], []

    async def handle(message: Contract) -> Sequence[Contract]:
        seen.append(message.id)
        if len(seen) == 1:
            raise Retry("not now", after=0)
        raise Reject("never")

    first = {
        Owner.SENDER: mail(),
        Owner.OTP: IssueCode(id="i-1", email=ADA),
        Owner.CLASSIFIER: REPORT,
        Owner.SCHEDULER: mail().model_copy(update={"scheduled_at": MOMENT}),
        Owner.LEDGER: mail(),
        Owner.WEBHOOKS: ForgetAddress(id="f-2", email=ADA),
    }[owner]
    async with (
        Broker.connect(login(owner), owner) as broker,
        Broker.connect(vhost, "operator") as operator,
        broker.consuming(Subscription(queue, {type(first): handle}, prefetch=1)),
    ):
        await operator.publish(first)
        await settled(vhost, topology.dead_queue(queue), 1)

    assert seen == [first.id, first.id]


async def test_a_cut_connection_comes_back_with_the_least_rights(vhost: str, login: Login) -> None:
    """A reconnect needs no right to declare."""
    sender = Service(lambda email: [delivered(email)])
    async with Proxy.to(urlsplit(vhost).port or 0) as proxy:
        way = login(Owner.SENDER).replace(f":{urlsplit(vhost).port}/", f":{proxy.port}/")
        async with (
            Broker.connect(way, "sender") as broker,
            Broker.connect(login(Owner.GATEWAY), "gateway") as gateway,
            broker.consuming(sender.subscribed(topology.sending_queue(Category.BULK), SendEmail)),
        ):
            await gateway.publish(mail())
            await sender.next()
            await settled(vhost, topology.EVIDENCE, 1)
            proxy.cut()
            await gateway.publish(mail())
            await sender.next()

            await settled(vhost, topology.EVIDENCE, 2)


@pytest.mark.parametrize("owner", Owner)
async def test_nothing_else_may_be_published_or_consumed(
    vhost: str, login: Login, owner: Owner
) -> None:
    """A service can neither read other queues nor publish with other keys."""
    for act in REFUSED[owner]:
        if isinstance(act, Browse):
            await publish_raw(vhost, act.queue, b"{}")

    allowed = [act for act in REFUSED[owner] if not await refused(login(owner), act)]

    assert allowed == []


@pytest.mark.parametrize("owner", Owner)
async def test_no_service_declares(login: Login, owner: Owner) -> None:
    """A service cannot declare a queue or an exchange."""
    with pytest.raises(Unavailable, match="ACCESS_REFUSED"):
        await rabbitmq.declare(login(owner), [], [topology.Queue(f"{owner}.own", owner, ())])
    with pytest.raises(Unavailable, match="ACCESS_REFUSED"):
        await rabbitmq.declare(login(owner), [topology.Exchange(f"{owner}.own")], [])


@pytest.mark.parametrize("owner", Owner)
async def test_no_service_deletes_or_rebinds(login: Login, owner: Owner) -> None:
    """A service can neither delete a queue nor bind one."""
    queue = WORK.get(owner, "sender.bulk")
    async with await aio_pika.connect(login(owner)) as connection:
        for act in ("delete", "bind"):
            channel = await connection.channel()
            own = await channel.get_queue(queue, ensure=False)
            with pytest.raises(aio_pika.exceptions.ChannelClosed, match="ACCESS_REFUSED"):
                await (own.delete() if act == "delete" else own.bind(topology.EVENTS, "#"))


def run(*words: str) -> int:
    """Run `ops topology` with the arguments of a command line."""
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(words))


async def log_in(url: str) -> None:
    """Open a connection, which fails for a user without rights in the vhost."""
    async with await aio_pika.connect(url):
        pass


def test_the_command_declares_and_grants(
    rabbit: Node, vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two commands prepare a broker for the services."""
    monkeypatch.setenv("AMQP_URL", vhost)
    monkeypatch.setenv("RABBITMQ_MANAGEMENT_URL", rabbit.address.management_url)
    for owner, password in PASSWORDS.items():
        monkeypatch.setenv(f"{owner.upper()}_AMQP_PASSWORD", password)

    assert [run("declare"), run("grant")] == [0, 0]

    way = vhost.replace(account(vhost), f"gateway:{PASSWORDS['gateway']}")
    asyncio.run(log_in(way))


def test_the_command_tells_which_passwords_are_missing(
    rabbit: Node, vhost: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing passwords are an error that names all variables, and nothing is created."""
    for owner in Owner:
        monkeypatch.delenv(f"{owner.upper()}_AMQP_PASSWORD", raising=False)
    monkeypatch.setenv("OTP_AMQP_PASSWORD", "x" * 32)

    code = run("grant", "--amqp-url", vhost, "--management-url", rabbit.address.management_url)

    printed = capsys.readouterr().err
    assert code == 1
    assert "GATEWAY_AMQP_PASSWORD" in printed
    assert "OTP_AMQP_PASSWORD" not in printed
    assert "x" * 32 not in printed


def test_the_command_gives_up_on_a_broker_that_is_not_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An unreachable broker is an error in one line, after the given wait."""
    (port,) = ports.unused(1)

    code = run("declare", "--wait", "0", "--amqp-url", f"amqp://ada:secret@127.0.0.1:{port}/")

    printed = capsys.readouterr().err
    assert code == 1
    assert "does not answer" in printed
    assert "secret" not in printed
