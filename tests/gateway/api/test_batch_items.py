"""The messages of a batch, without HTTP."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.gateway.api import batch_items
from services.gateway.api.batch_items import MAX_BATCH_CHARS, Item, read_templated, size_of
from services.gateway.api.messages import BatchMessage
from services.gateway.api.problem import Problem
from services.gateway.clients.idempotency import RequestStamp
from shared import contracts

STAMP = RequestStamp("m1", datetime(2026, 11, 1, 12, tzinfo=UTC))
UNSUBSCRIBE = {
    "List-Unsubscribe": "<https://shop.example/u/17>",
    "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
}
ANN = {"to": "ann@example.com", "variables": {"name": "Ann"}}
MAILING: dict[str, Any] = {
    "template": {"subject": "Hello {{ name }}", "text": "Dear {{ name }}"},
    "recipients": [ANN],
}


def made(**fields: object) -> list[Item]:
    """Return the messages of a batch with some fields changed."""
    return [*read_templated(MAILING | fields).messages()]


def test_a_recipient_has_headers_of_its_own() -> None:
    """Headers of a recipient come beside those of all, whose value they replace."""
    shared = UNSUBSCRIBE | {"X-A": "all"}
    own = {"List-Unsubscribe": "<https://shop.example/u/ann>", "X-A": "ann", "X-B": "ann"}

    first, second = made(headers=shared, recipients=[ANN, ANN | {"headers": own}])

    assert isinstance(first, BatchMessage)
    assert isinstance(second, BatchMessage)
    assert first.headers == shared
    assert second.headers == UNSUBSCRIBE | own


@pytest.mark.parametrize(
    ("headers", "category"),
    [
        ({"List-Unsubscribe": "<mailto:a@shop.example>"}, "bulk"),
        ({"List-Unsubscribe": "<https://shop.example/u/ann>"}, "otp"),
    ],
)
def test_headers_are_checked_together(headers: dict[str, str], category: str) -> None:
    """Headers that do not fit those of all, or the class, are a mistake of their recipient."""
    shared = UNSUBSCRIBE if category == "bulk" else {}

    good, wrong = made(
        headers=shared, category=category, recipients=[ANN, ANN | {"headers": headers}]
    )

    assert isinstance(good, BatchMessage)
    assert isinstance(wrong, Problem)
    assert [each.pointer for each in wrong.errors] == ["#/headers"]


def test_the_messages_of_a_batch_have_a_size_together() -> None:
    """Messages beyond the size of a batch are refused, and their files count."""
    file = {"filename": "a.bin", "content": "AAAA" * 1_000_000}

    items = made(recipients=[ANN] * 10, attachments=[file])

    kinds = [type(each) for each in items]
    assert kinds == [BatchMessage] * 5 + [Problem] * 5
    assert sum(map(size_of, items)) - size_of(items[0]) < MAX_BATCH_CHARS
    last = items[-1]
    assert isinstance(last, Problem)
    assert last.type.code == "too-large"


def test_the_rendering_of_a_batch_has_a_cost_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages beyond the cost of a batch are refused."""
    monkeypatch.setattr(batch_items, "MAX_BATCH_STEPS", 10)

    items = made(recipients=[ANN] * 10)

    assert [type(each) for each in items] == [BatchMessage] * 2 + [Problem] * 8


@pytest.mark.parametrize(
    "wrong",
    [{"variables": {}}, {"headers": {"List-Unsubscribe": "<mailto:a@shop.example>"}}],
    ids=["variables", "headers"],
)
def test_a_message_that_is_refused_costs_what_was_rendered(
    monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    """A mistake that only the rendering shows, or that is found after it, has cost as much."""
    monkeypatch.setattr(batch_items, "MAX_BATCH_STEPS", 10)

    items = made(category="bulk", headers=UNSUBSCRIBE, recipients=[ANN | wrong] * 10)

    codes = [each.type.code for each in items if isinstance(each, Problem)]
    assert codes == ["invalid"] * 2 + ["too-large"] * 8


@given(
    name=st.text(max_size=20),
    category=st.sampled_from(["otp", "transactional", "bulk"]),
    headers=st.dictionaries(
        st.sampled_from(["List-Unsubscribe", "List-Unsubscribe-Post", "X-A"]),
        st.sampled_from(["<https://a.example/u>", "List-Unsubscribe=One-Click", "a"]),
    ),
    own=st.dictionaries(
        st.sampled_from(["List-Unsubscribe", "X-A"]),
        st.sampled_from(["<https://a.example/u>", "<mailto:a@b.example>", "b"]),
    ),
)
def test_a_rendered_message_can_be_read_by_the_sender(
    name: str, category: str, headers: dict[str, str], own: dict[str, str]
) -> None:
    """The contract accepts every command that a template makes."""
    recipient = ANN | {"variables": {"name": name}, "headers": own}
    try:
        (item,) = made(category=category, headers=headers, recipients=[recipient])
    except Problem:
        return
    if isinstance(item, Problem):
        return

    command = item.command(STAMP, "shop")

    assert contracts.decode(command.routing_key, contracts.encode(command)) == command
