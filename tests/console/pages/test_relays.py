"""The page of relays: circuits, limits, rates and times."""

import pytest

from shared.contracts import CircuitState, DescribeRelays, RelaysDescribed
from tests.console.answers import Answers, example
from tests.console.operator import Operator
from tests.waiting import until

pytestmark = pytest.mark.rabbit
(RELAY, *_) = example(RelaysDescribed).relays


async def test_relays_are_shown_as_a_sender_answered(answers: Answers, operator: Operator) -> None:
    """The console asks by itself; a relay that rests is pointed out."""

    async def shown() -> bool:
        return RELAY.relay in (await operator.get("/relays")).words

    await until(shown)
    page, overview = await operator.get("/relays"), await operator.get("/")

    assert "open: failed 2 times, tried again in 4 s" in page.words
    assert f"{RELAY.relay} takes no bulk mail: it failed 2 times" in overview.words
    assert any(isinstance(each, DescribeRelays) for each in answers.asked)


async def test_without_a_sender_it_says_what_to_do(operator: Operator) -> None:
    """A page without an answer is no empty table."""
    assert "No sender has answered in the last minute" in (await operator.get("/relays")).words
    assert CircuitState.CLOSED
