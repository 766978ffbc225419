"""The load during a fault."""

from datetime import datetime

import orjson
import pytest
from yarl import URL

from ops.chaos.flows import LATER_SECONDS, RATES, Endpoint, Flow, FlowLoad, FlowPlan
from ops.load.http import GatewayClient, HttpRequest
from ops.ports import unused
from shared.contracts import Category

BEGIN = 1_900_000_000.0


def plan(flow: Flow) -> FlowPlan:
    """Return the plan of a flow, with four items a second."""
    return FlowPlan("0a1b", 500, (Category.TRANSACTIONAL,), flow, BEGIN, 4.0)


@pytest.mark.parametrize("flow", RATES)
def test_a_request_is_the_same_each_time(flow: Flow) -> None:
    """An item that is sent again has the same key and body, and so no second effect."""
    assert plan(flow).request(7) == plan(flow).request(7)
    assert plan(flow).request(7).method == "GET" or plan(flow).request(7).key


def test_each_user_of_codes_has_a_network_and_an_address() -> None:
    """The limits of codes do not bound the load."""
    bodies = [orjson.loads(plan(Flow.CODE).request(number).body) for number in range(100)]

    assert len({each["ip"] for each in bodies}) == len({each["email"] for each in bodies}) == 100


def test_a_mail_for_later_has_a_time_of_its_own() -> None:
    """It counts as accepted from its time on, though it was accepted before."""
    later = plan(Flow.LATER)
    body = orjson.loads(later.request(8).body)
    load = FlowLoad(later)
    load.sent(8)

    assert datetime.fromisoformat(body["scheduled_at"]).timestamp() == BEGIN + 2 + LATER_SECONDS
    assert load.accepted == {8: BEGIN + 2 + LATER_SECONDS}


def test_a_question_counts_from_when_it_was_asked() -> None:
    """An answer that comes after a kill may be older than it."""
    load = FlowLoad(plan(Flow.LEDGER))
    load.begin(3)
    load.sent(3)

    assert BEGIN > load.answered[3] >= load.accepted[3] > 0


def test_a_handed_over_mail_has_one_message_id() -> None:
    """By it the submission door knows a mail that comes again."""
    first, again, other = (plan(Flow.SUBMISSION).submission(number) for number in (1, 1, 2))

    assert first == again != other
    assert first.count(b"Message-ID: ") == 1


async def test_an_endpoint_keeps_the_first_time_of_a_recipient() -> None:
    """An event that is sent twice is heard once."""
    body = orjson.dumps({"type": "email.delivered", "data": {"recipient": "ada@mail.example"}})
    async with (
        Endpoint.open(*unused(1)) as endpoint,
        GatewayClient.open(URL(endpoint.url)) as client,
    ):
        await client.send(HttpRequest("POST", "/", body))
        first = dict(endpoint.heard)
        await client.send(HttpRequest("POST", "/", body))

    assert endpoint.heard == first
    assert [*first] == ["ada@mail.example"]
