"""A reply may go to the asker alone, whatever its message names."""

import base64

import pytest

from shared import asker, topology
from shared.broker import Broker
from shared.errors import Undecodable
from shared.identity import Identity
from tests.shared.messages import mail
from tests.tap import tapped

OURS = Identity("guest", names_clients=True, is_copy=True)
SHOP = Identity("shop")
KEY = "7eGxQIMgIybcYYROf2JS2Q=="
NODE = b"reply@82713972"
PROCESS = b"\x83Xv\x00\x0e" + NODE + b"\x00\x00\x03h\x00\x00\x00\x00k\x0b\xa4\xc9"


def direct(process: bytes, key: str = KEY) -> str:
    """Return the direct reply-to address of a process."""
    return f"{asker.DIRECT_REPLY}.{base64.b64encode(process).decode()}.{key}"


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
    """A channel that the broker names and a program's own queue are told."""
    asker.check(reply_to, SHOP)


@pytest.mark.parametrize(
    "queue", [*(queue.name for queue in topology.queues(tuple(topology.Owner)))]
)
def test_no_reply_goes_to_a_queue_of_the_pipeline(queue: str) -> None:
    """No queue of any service, running or not, no dead letters, no delay queue."""
    with pytest.raises(Undecodable, match="reply_to"):
        asker.check(queue, OURS)


@pytest.mark.parametrize("name", ["sender", "inbound.mail", "webhooks.x", "delay.9d", "amq.gen-x"])
def test_a_name_that_may_become_ours_is_refused(name: str) -> None:
    """No program has a name today that a later version may declare."""
    with pytest.raises(Undecodable, match="reply_to"):
        asker.check(name, OURS)


@pytest.mark.parametrize(
    "reply_to",
    [
        asker.DIRECT_REPLY,  # nobody's: our own channel would be closed for it
        f"{asker.DIRECT_REPLY}.",
        f"{asker.DIRECT_REPLY}.x",
        f"{asker.DIRECT_REPLY}.!!!.{KEY}",
        f"{asker.DIRECT_REPLY}.g1h2=A.{KEY}",
        f"{asker.DIRECT_REPLY}.g1h2A.{KEY}",
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
        asker.check(reply_to, OURS)


@pytest.mark.parametrize("publisher", [Identity(), SHOP], ids=["of no user", "of shop"])
@pytest.mark.parametrize("queue", ["bakery.orders", "shopper.replies", "shop", "replies"])
def test_no_reply_goes_to_another_program_s_queue(queue: str, publisher: Identity) -> None:
    """Only the user that the broker vouches for says whose a queue is."""
    with pytest.raises(Undecodable, match="reply_to"):
        asker.check(queue, publisher)


def test_all_that_share_our_user_may_name_any_queue_of_theirs() -> None:
    """On a broker with one user there is nobody to protect from it."""
    asker.check("replies", OURS)


@pytest.mark.rabbit
async def test_the_broker_s_own_address_is_known(url: str) -> None:
    """This broker writes addresses of the form that is taken."""
    async with (
        Broker.connect(url, "tests") as door,
        tapped(url, topology.COMMANDS) as commands,
        door.request_stream(mail("first")),
    ):
        asked = await commands.next()

    assert str(asked.reply_to).startswith(f"{asker.DIRECT_REPLY}.")
    asker.check(asked.reply_to, Identity())
