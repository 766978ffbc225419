"""The queries and bodies about tries."""

import pytest
from multidict import MultiDict

from services.gateway.api.body import checked, read_query
from services.gateway.api.problem import Problem
from services.gateway.api.webhook_tries import DeliveryQuery, TryQuery, WebhookReplay
from tests.shared.golden.webhook_examples import DELIVERY_CURSOR, MESSAGE, TRY_CURSOR


@pytest.mark.parametrize("after", ["x", "1-", "1-msg_1-2-3", f"{TRY_CURSOR}x", "'; --"])
def test_a_cursor_that_is_none_is_a_422(after: str) -> None:
    """It reaches no database."""
    with pytest.raises(Problem) as caught:
        read_query(TryQuery, MultiDict(after=after))

    assert [each.detail for each in caught.value.errors] == ["must be `next` of another page"]


def test_a_cursor_of_a_page_is_read() -> None:
    """Of deliveries and of tries."""
    assert read_query(DeliveryQuery, MultiDict(after=DELIVERY_CURSOR)).after == DELIVERY_CURSOR
    assert read_query(TryQuery, MultiDict(after=TRY_CURSOR)).after == TRY_CURSOR


@pytest.mark.parametrize("more", ["since", "until"])
def test_a_replay_is_of_one_event_or_of_a_span(more: str) -> None:
    """Both together are a mistake."""
    with pytest.raises(Problem):
        checked(WebhookReplay, {"message_id": MESSAGE, more: "2026-11-01T12:00:00Z"})


@pytest.mark.parametrize("since", [1_700_000_000, "1700000000", "yesterday"])
def test_a_span_has_times_of_rfc_3339(since: object) -> None:
    """A number is none."""
    with pytest.raises(Problem):
        checked(WebhookReplay, {"since": since})
