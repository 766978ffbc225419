"""The simulator's mailbox, read shelf by shelf."""

import pytest
from yarl import URL

from ops.load.errors import LoadError
from ops.load.lane import knocking
from ops.load.mailbox import Mailbox
from ops.load.mails import SHELF, Plan
from ops.simulator.simulator import Simulator
from shared.contracts import Category
from tests.ops.load.gateway import KEY, Gateway

PLAN = Plan("0a1b2c3d", SHELF + 2, (Category.BULK,))


async def test_every_copy_of_a_run_is_read() -> None:
    """Over all shelves, doubles too, and nobody else's mail."""
    numbers = [*range(PLAN.mails), 3]
    async with Simulator() as simulator:
        simulator.mailbox.keep("me@a.example", ["other@a.example"], b"Subject: x\r\n\r\n")
        for number in numbers:
            simulator.mailbox.keep("me@a.example", [PLAN.recipient(number)], b"Subject: x\r\n\r\n")
        async with knocking(URL(simulator.web_url)) as door:
            found = await Mailbox(door).arrivals(PLAN)
            count = await Mailbox(door).count(PLAN.prefix)
        kept = [each.received_at.timestamp() for each in simulator.mailbox.find()][:-1]

    assert sorted(each.recipient for each in found) == sorted(map(PLAN.recipient, numbers))
    assert count == len(numbers)
    assert sorted(each.at for each in found) == sorted(kept)


async def test_what_is_no_mailbox_is_told() -> None:
    """An address of something else would count nothing for ever."""
    async with Gateway.serving() as gateway, knocking(gateway.url, KEY) as door:
        with pytest.raises(LoadError, match="404"):
            await Mailbox(door).count(PLAN.prefix)
