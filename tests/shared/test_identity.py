"""The publisher of a message and its client: only the user that the broker checked counts."""

import base64
from collections.abc import Sequence

import pytest

from shared import topology
from shared.broker import Broker
from shared.contracts import (
    AcceptedEmail,
    CancelCode,
    Contract,
    DescribeClient,
    DescribeDomain,
    IssueCode,
    SendEmail,
    VerifyCode,
    decode,
    encode,
)
from shared.errors import Undecodable
from shared.identity import DIRECT_REPLY, Identity, attributed, check_reply_to, identify
from shared.topology import OPERATOR, Owner
from tests.shared.messages import mail
from tests.tap import tapped

QUEUE = topology.OTP_COMMANDS
SHOP = Identity("shop")
ADA = "ada@example.com"
OURS = Identity("guest", names_clients=True, is_copy=True)
KEY = "7eGxQIMgIybcYYROf2JS2Q=="
NODE = b"reply@82713972"
PROCESS = b"\x83Xv\x00\x0e" + NODE + b"\x00\x00\x03h\x00\x00\x00\x00k\x0b\xa4\xc9"


def codes(client: str | None) -> Sequence[IssueCode | VerifyCode | CancelCode]:
    """Return a message of each kind that acts for a client."""
    return (
        IssueCode(id="i", email=ADA, client=client),
        VerifyCode(id="v", email=ADA, code="1", client=client),
        CancelCode(id="c", challenge_id="x", client=client),
    )


@pytest.mark.parametrize("user", [Owner.GATEWAY, Owner.OTP, Owner.SCHEDULER, OPERATOR])
def test_a_service_that_knows_clients_names_them(user: str) -> None:
    """Its user is enough, whatever the name of the reader's."""
    publisher = identify(QUEUE, "otp", str(user), None)

    assert publisher.names_clients
    for message in codes("neighbour"):
        assert attributed(message, publisher) == message


def test_on_a_broker_with_one_user_the_body_is_believed() -> None:
    """With one user for all there is no other client to protect."""
    publisher = identify(QUEUE, "guest", "guest", None)

    for message in codes("neighbour"):
        assert attributed(message, publisher) == message


@pytest.mark.parametrize("user", ["shop", Owner.CLASSIFIER, "postrider2"])
@pytest.mark.parametrize("claimed", [None, "neighbour"])
def test_any_other_user_is_a_client_itself(user: str, claimed: str | None) -> None:
    """The client in the body does not count."""
    publisher = identify(QUEUE, "otp", str(user), None)

    for message in codes(claimed):
        assert attributed(message, publisher) == message.model_copy(update={"client": user})


def test_without_a_user_no_client_can_be_named() -> None:
    """A message about codes is refused; a mail is sent without a client."""
    unknown = identify(QUEUE, "otp", None, None)
    sent: SendEmail = attributed(mail("m").model_copy(update={"client": "neighbour"}), unknown)

    assert sent == mail("m")
    for message in codes("neighbour"):
        with pytest.raises(Undecodable, match="user_id"):
            attributed(message, unknown)
    for message in codes(None):
        assert attributed(message, unknown) == message


@pytest.mark.parametrize("publisher", [Identity(), SHOP, OURS], ids=["no user", "shop", "ours"])
def test_the_ledger_s_copy_has_the_client_of_the_command(publisher: Identity) -> None:
    """A mail that the sender sends for a client is recorded for that client."""
    sent = SendEmail(id="m", client="neighbour", to=("a@b.example",), subject="s", text="t")
    copy = decode(sent.routing_key, encode(sent), (AcceptedEmail,))

    assert isinstance(copy, AcceptedEmail)
    assert attributed(copy, publisher).client == attributed(sent, publisher).client


def test_any_user_may_ask_about_domains() -> None:
    """A question about a domain concerns no client."""
    message: Contract = DescribeDomain(id="d", domain="example.com")

    assert attributed(message, SHOP) is message


@pytest.mark.parametrize("user", ["shop", Owner.INBOUND, Owner.SENDER, None])
def test_what_only_operators_may_ask_is_refused_from_all_others(user: str | None) -> None:
    """A key that is named in a CC header passes the rights by topic; the user does not."""
    question = DescribeClient(id="q-1", client_id="shop")
    others = identify(topology.GATEWAY_QUESTIONS, "gateway", user, None)

    with pytest.raises(Undecodable, match="only postrider and console may ask this"):
        attributed(question, others)
    for ours in (OPERATOR, Owner.CONSOLE, "gateway"):
        identity = identify(topology.GATEWAY_QUESTIONS, "gateway", str(ours), None)
        assert attributed(question, identity) is question


def test_a_user_whose_name_is_no_client_s_is_refused() -> None:
    """A user whose name cannot be a client's id is refused."""
    with pytest.raises(Undecodable, match="user_id"):
        attributed(codes(None)[0], Identity("CN=shop,O=example"))


@pytest.mark.parametrize(
    ("queue", "reader", "copier"),
    [
        ("sender.bulk", "sender", "sender"),
        ("sender.bulk", "guest", "guest"),
        ("sender.bulk", "sender", OPERATOR),
        ("sender.bulk.dead", OPERATOR, "sender"),
        ("sender.bulk.dead", "admin", "sender"),
        (topology.UNROUTED, OPERATOR, "otp"),
    ],
)
def test_a_copy_keeps_the_user_of_the_first(queue: str, reader: str, copier: str) -> None:
    """A delayed copy or a dead letter keeps its first publisher, or none."""
    assert identify(queue, reader, copier, "shop") == Identity("shop", is_copy=True)
    assert identify(queue, reader, copier, "") == Identity(None, is_copy=True)
    assert identify(queue, reader, copier, "gateway").names_clients


@pytest.mark.parametrize("user", [None, "shop", Owner.GATEWAY, Owner.SENDER, "admin"])
@pytest.mark.parametrize("stated", ["gateway", "", "['gateway']"])
def test_only_services_and_the_operator_may_state_a_user(user: str | None, stated: str) -> None:
    """The header USER of any other publisher is forged."""
    publisher = identify(QUEUE, "otp", user and str(user), stated)

    assert not publisher.is_copy
    with pytest.raises(Undecodable, match="x-user"):
        attributed(mail("m"), publisher)


def direct(process: bytes, key: str = KEY) -> str:
    """Return the direct reply-to address of a process."""
    return f"{DIRECT_REPLY}.{base64.b64encode(process).decode()}.{key}"


@pytest.mark.parametrize(
    "reply_to",
    [
        None,
        "",
        direct(PROCESS),
        direct(PROCESS.replace(b"v\x00", b"w")),  # a short atom, as newer Erlangs may write it
        "shop.replies",
    ],
)
def test_a_reply_goes_to_the_asker(reply_to: str | None) -> None:
    """Replies go to an address that the broker wrote, and to a program's own queue."""
    check_reply_to(reply_to, SHOP)


@pytest.mark.parametrize(
    "queue", [*(queue.name for queue in topology.queues(tuple(topology.Owner)))]
)
def test_no_reply_goes_to_a_queue_of_the_pipeline(queue: str) -> None:
    """Replies go to no queue of a service, running or not, no dead letters, no delay queue."""
    with pytest.raises(Undecodable, match="reply_to"):
        check_reply_to(queue, OURS)


@pytest.mark.parametrize("name", ["sender", "inbound.mail", "webhooks.x", "delay.9d", "amq.gen-x"])
def test_a_name_that_may_become_ours_is_refused(name: str) -> None:
    """No program has a name today that a later version may declare."""
    with pytest.raises(Undecodable, match="reply_to"):
        check_reply_to(name, OURS)


@pytest.mark.parametrize(
    "reply_to",
    [
        DIRECT_REPLY,  # nobody's: our own channel would be closed for it
        f"{DIRECT_REPLY}.",
        f"{DIRECT_REPLY}.x",
        f"{DIRECT_REPLY}.!!!.{KEY}",
        f"{DIRECT_REPLY}.g1h2=A.{KEY}",
        f"{DIRECT_REPLY}.g1h2A.{KEY}",
        direct(PROCESS, "x"),
        direct(PROCESS, f"{KEY}.{KEY}"),
        direct(b"\x83a\x01"),
        direct(PROCESS[:-1]),
        direct(PROCESS + b"\x00"),
        direct(PROCESS.replace(NODE, b"rabbit@a-machine")),
        direct(PROCESS.replace(b"\x0e", b"\x0d")),
        direct(b"\x83l\x7f\xff\xff\xff"),  # a list of 2 billion
    ],
)
def test_an_address_that_no_broker_wrote_is_refused(reply_to: str) -> None:
    """RabbitMQ 3.10 reads it with `binary_to_term` and ends the connection that published it."""
    with pytest.raises(Undecodable, match="reply_to"):
        check_reply_to(reply_to, OURS)


@pytest.mark.parametrize("publisher", [Identity(), SHOP], ids=["of no user", "of shop"])
@pytest.mark.parametrize("queue", ["bakery.orders", "shopper.replies", "shop", "replies"])
def test_no_reply_goes_to_another_program_s_queue(queue: str, publisher: Identity) -> None:
    """A queue belongs to the user that its name begins with."""
    with pytest.raises(Undecodable, match="reply_to"):
        check_reply_to(queue, publisher)


def test_all_that_share_our_user_may_name_any_queue_of_theirs() -> None:
    """On a broker with one user all queues are its own."""
    check_reply_to("replies", OURS)


@pytest.mark.rabbit
async def test_the_broker_s_own_address_is_known(url: str) -> None:
    """The addresses that this broker writes are accepted."""
    async with (
        Broker.connect(url, "tests") as door,
        tapped(url, topology.COMMANDS) as commands,
        door.request_stream(mail("first")),
    ):
        asked = await commands.next()

    assert str(asked.reply_to).startswith(f"{DIRECT_REPLY}.")
    check_reply_to(asked.reply_to, Identity())
