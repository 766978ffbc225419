"""The mails of a run: those that are sent, and those in the mailbox."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from ops.load import mails
from ops.load.http import GatewayClient, LoadError
from ops.load.mails import GROUP_SIZE, MailPlan, count_mails, read_arrivals
from ops.simulator.simulator import Simulator
from shared import contracts
from shared.contracts import Category, SendEmail
from tests.ops.load.gateway import KEY, Gateway

PLAN = MailPlan("0a1b2c3d", GROUP_SIZE + 2, (Category.BULK,))


def test_a_request_asks_for_the_same_as_a_command() -> None:
    """HTTP and AMQP carry the same mail, with the same id at each repetition."""
    plan = MailPlan("0a1b2c3d", 4, (Category.BULK, Category.TRANSACTIONAL))
    for number in range(plan.mails):
        command, asked = plan.message(number), orjson.loads(plan.request(number).body)

        assert contracts.decode(command.routing_key, contracts.encode(command)) == command
        assert isinstance(command, SendEmail)
        assert (asked["to"],) == command.to
        assert (asked["subject"], asked["text"]) == (command.subject, command.text)
        assert asked["category"] == command.category == plan.categories[number % 2]
        assert plan.request(number).key == command.id


@given(st.integers(1, 3000))
def test_every_mail_is_found_in_one_group(count: int) -> None:
    """Each mail is in one group, which fits into one response of the mailbox."""
    plan = MailPlan("0a1b2c3d", count, (Category.BULK,))
    found = [
        sum(plan.recipient(number).startswith(prefix) for number in range(count))
        for prefix in plan.group_prefixes
    ]

    assert sum(found) == count
    assert max(found) <= GROUP_SIZE
    assert len({plan.recipient(number) for number in range(count)}) == count


def test_a_recipient_without_one_copy_is_reported() -> None:
    """No copy and two copies are differences; an unacknowledged mail may have one."""
    copies = {"a": 1, "b": 2, "unsure": 1}

    assert mails.differences(["a", "b", "c"], copies) == ["b: 2 copies", "c: 0 copies"]
    assert mails.differences(["a"], {"a": 1, "unsure": 2}) == ["unsure: 2 copies"]


async def test_every_copy_of_a_run_is_read() -> None:
    """All groups are read, second copies too, and no mail of another run."""
    numbers = [*range(PLAN.mails), 3]
    async with Simulator() as simulator:
        simulator.mailbox.keep("me@a.example", ["other@a.example"], b"Subject: x\r\n\r\n")
        for number in numbers:
            simulator.mailbox.keep("me@a.example", [PLAN.recipient(number)], b"Subject: x\r\n\r\n")
        async with GatewayClient.open(URL(simulator.web_url)) as client:
            found = await read_arrivals(client, PLAN)
            count = await count_mails(client, PLAN.prefix)
        kept = [each.received_at.timestamp() for each in simulator.mailbox.find()][:-1]

    assert sorted(each.recipient for each in found) == sorted(map(PLAN.recipient, numbers))
    assert count == len(numbers)
    assert sorted(each.at for each in found) == sorted(kept)


async def test_a_server_that_is_no_mailbox_ends_the_run() -> None:
    """A server that is no mailbox ends the run."""
    async with Gateway.serving() as gateway, GatewayClient.open(gateway.url, KEY) as client:
        with pytest.raises(LoadError, match="404"):
            await count_mails(client, PLAN.prefix)
