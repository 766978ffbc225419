"""The publisher of a message and its client: the broker's word alone counts."""

from collections.abc import Sequence

import pytest

from shared import topology
from shared.contracts import (
    CancelCode,
    Contract,
    DescribeDomain,
    IssueCode,
    SendEmail,
    VerifyCode,
)
from shared.errors import Undecodable
from shared.identity import Identity, attributed, identify
from shared.topology import OPERATOR, Owner
from tests.shared.messages import mail

QUEUE = topology.OTP_COMMANDS
SHOP = Identity("shop")
ADA = "ada@example.com"


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
    """There is nobody whom it could be kept from."""
    publisher = identify(QUEUE, "guest", "guest", None)

    for message in codes("neighbour"):
        assert attributed(message, publisher) == message


@pytest.mark.parametrize("user", ["shop", Owner.SENDER, Owner.CLASSIFIER, "postrider2"])
@pytest.mark.parametrize("claimed", [None, "neighbour"])
def test_any_other_user_is_a_client_itself(user: str, claimed: str | None) -> None:
    """The body does not count."""
    publisher = identify(QUEUE, "otp", str(user), None)

    for message in codes(claimed):
        assert attributed(message, publisher) == message.model_copy(update={"client": user})


def test_without_a_user_no_client_can_be_named() -> None:
    """A code would be somebody else's; the client in a mail is dropped."""
    nobody = identify(QUEUE, "otp", None, None)
    sent: SendEmail = attributed(mail("m").model_copy(update={"client": "neighbour"}), nobody)

    assert sent == mail("m")
    for message in codes("neighbour"):
        with pytest.raises(Undecodable, match="user_id"):
            attributed(message, nobody)
    for message in codes(None):
        assert attributed(message, nobody) == message


def test_what_has_no_client_is_anybody_s() -> None:
    """A question about a domain concerns no client."""
    message: Contract = DescribeDomain(id="d", domain="example.com")

    assert attributed(message, SHOP) is message


def test_a_user_whose_name_is_no_client_s_is_refused() -> None:
    """It would make a message that nobody else reads."""
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
    """After a wait or a death it is still the shop's, or nobody's."""
    assert identify(queue, reader, copier, "shop") == Identity("shop", is_copy=True)
    assert identify(queue, reader, copier, "") == Identity(None, is_copy=True)
    assert identify(queue, reader, copier, "gateway").names_clients


@pytest.mark.parametrize("user", [None, "shop", Owner.GATEWAY, Owner.SENDER, "admin"])
@pytest.mark.parametrize("stated", ["gateway", "", "['gateway']"])
def test_nobody_else_states_a_user(user: str | None, stated: str) -> None:
    """It is an attack, or an operator with a user whom the services cannot know."""
    publisher = identify(QUEUE, "otp", user and str(user), stated)

    assert not publisher.is_copy
    with pytest.raises(Undecodable, match="x-user"):
        attributed(mail("m"), publisher)
