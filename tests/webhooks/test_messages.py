"""Tests of an event as endpoints get it: whose it is, and about which person."""

from datetime import UTC, datetime
from typing import NamedTuple

import pytest

from services.webhooks.messages import Audience, Message, message_of, wants
from shared.contracts import Category, MailReceived, MailReference
from shared.contracts.fields import Tag

NOW = datetime(2026, 11, 29, tzinfo=UTC)
ORDER = MailReference(
    email_id="m-1", category=Category.TRANSACTIONAL, client="shop", recipient="Ada@one.example"
)


class Hook(NamedTuple):
    """The wishes of an endpoint."""

    client: str
    events: tuple[str, ...] = ("mail.received",)
    categories: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


def received(about: MailReference | None) -> MailReceived:
    """Return the event of a mail that came back."""
    more = {"headers": (), "text": "Hello", "is_cut": False}
    return MailReceived.about(
        about, b"", at=NOW, sender="eve@x.example", to="b-1@y.example", **more
    )


@pytest.mark.parametrize(
    ("about", "owners", "address"),
    [(ORDER, ["", "shop"], "ada@one.example"), (None, [""], "eve@x.example")],
    ids=["of a return path", "of postmaster"],
)
def test_a_mail_that_came_back(
    about: MailReference | None, owners: list[str], address: str
) -> None:
    """Its client gets it, and the administrator; without a return path the administrator alone."""
    message = message_of(received(about))

    assert [each for each in ("", "shop", "other") if wants(Hook(each), message)] == owners
    assert message.address == address
    assert not wants(Hook("", events=("report.*",)), message)


CLASSES = (None, Category.TRANSACTIONAL, Category.BULK)
HOOKS = [
    Hook(client, events, categories, tags)
    for client in ("", "shop", "other")
    for events in (("email.bounced",), ("email.*", "email.bounced"), ("code.*",))
    for categories in ((), ("bulk",))
    for tags in ((), ("campaign",), ("campaign:spring", "campaign"), ("campaign:autumn",))
]


@pytest.mark.parametrize("client", [None, "", "shop"])
@pytest.mark.parametrize("category", CLASSES)
@pytest.mark.parametrize("tags", [(), (Tag(name="campaign", value="spring"),)])
def test_an_audience_is_all_that_want_a_message(
    client: str | None, category: Category | None, tags: tuple[Tag, ...]
) -> None:
    """Those that are found are those that want it when each is asked, each once."""
    message = Message("msg_1", "email.bounced", NOW, client, "", category, tags, b"{}")

    assert sorted(Audience(HOOKS).of(message)) == sorted(
        each for each in HOOKS if wants(each, message)
    )
