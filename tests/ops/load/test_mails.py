"""The mails of a run: each to an address of its own, by either way the same."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from ops.load import mails
from ops.load.mails import SHELF, Plan
from shared import contracts
from shared.contracts import Category, SendEmail


def test_a_request_asks_for_the_same_as_a_command() -> None:
    """Whichever way a mail takes, it is the same mail, also when it is asked for again."""
    plan = Plan("0a1b2c3d", 4, (Category.BULK, Category.TRANSACTIONAL))
    for number in range(plan.mails):
        command, asked = plan.command(number), orjson.loads(plan.request(number).body)

        assert contracts.decode(command.routing_key, contracts.encode(command)) == command
        assert isinstance(command, SendEmail)
        assert (asked["to"],) == command.to
        assert (asked["subject"], asked["text"]) == (command.subject, command.text)
        assert asked["category"] == command.category == plan.categories[number % 2]
        assert plan.request(number).key == command.id


@given(st.integers(1, 3000))
def test_every_mail_is_found_on_one_shelf(count: int) -> None:
    """One answer of the mailbox has a whole shelf, and none is on two."""
    plan = Plan("0a1b2c3d", count, (Category.BULK,))
    found = [
        sum(plan.recipient(number).startswith(shelf) for number in range(count))
        for shelf in plan.shelves
    ]

    assert sum(found) == count
    assert max(found) <= SHELF
    assert len({plan.recipient(number) for number in range(count)}) == count


def test_a_recipient_without_one_copy_is_told() -> None:
    """None, two; a mail of which nobody knows whether it was sent may have one."""
    copies = {"a": 1, "b": 2, "unsure": 1}

    assert mails.differences(["a", "b", "c"], copies) == ["b: 2 copies", "c: 0 copies"]
    assert mails.differences(["a"], {"a": 1, "unsure": 2}) == ["unsure: 2 copies"]
