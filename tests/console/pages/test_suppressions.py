"""The suppression list: looked up, added to, removed from."""

import pytest

from shared.contracts import (
    AddSuppressions,
    Category,
    DescribeSuppression,
    ListSuppressions,
    RemoveSuppressions,
    SuppressionOrigin,
    SuppressionsListed,
)
from tests.console.answers import Answers
from tests.console.operator import Operator

pytestmark = pytest.mark.rabbit
PAGE = "/suppressions"


async def test_an_address_is_looked_up_and_else_the_newest_are_shown(
    answers: Answers, operator: Operator
) -> None:
    """An address has entries of several origins; the list is by time."""
    await operator.get(f"{PAGE}?email=ada%40example.com&origin=manual")
    await operator.get(f"{PAGE}?origin=complaint")
    answers.set(DescribeSuppression, SuppressionsListed, suppressions=(), next=None)
    empty = await operator.get(f"{PAGE}?email=ada%40example.com")

    assert answers.last(DescribeSuppression).email == "ada@example.com"
    assert answers.last(ListSuppressions).origin is SuppressionOrigin.COMPLAINT
    assert "Nothing is suppressed here" in empty.words


async def test_an_address_is_suppressed_by_hand(answers: Answers, operator: Operator) -> None:
    """The classes, the client and the reason are those of the form; the audit masks the address."""
    token = (await operator.get(PAGE)).form_token
    form = [
        *(
            ("form_token", token),
            ("email", "ada@example.com"),
            ("client", ""),
            ("list_id", "weekly"),
        ),
        *(("categories", "bulk"), ("categories", "otp"), ("reason", "asked by phone")),
    ]
    async with operator.http.post(f"{operator.url}{PAGE}/add", data=form) as answer:
        text = await answer.text()
    (entry,) = answers.last(AddSuppressions).suppressions
    audit = (await operator.get("/audit")).words

    assert "it gets no mail of these classes any more: bulk, otp" in text
    assert (entry.email, entry.client, entry.list_id) == ("ada@example.com", None, "weekly")
    assert set(entry.categories) == {Category.BULK, Category.OTP}
    assert (entry.reason, entry.origin) == ("asked by phone", SuppressionOrigin.MANUAL)
    assert "suppress a***@example.com it gets no mail of these classes" in audit
    assert "ada@example.com" not in audit


async def test_an_entry_is_lifted_alone(answers: Answers, operator: Operator) -> None:
    """Entries of another origin or client stay."""
    fields = {"email": "ada@example.com", "origin": "manual", "client": "shop"}
    page = await operator.act(PAGE, f"{PAGE}/remove", **fields)
    asked = answers.last(RemoveSuppressions)

    assert asked.emails == ("ada@example.com",)
    assert (asked.origin, asked.client, asked.list_id) == (SuppressionOrigin.MANUAL, "shop", None)
    assert "entries removed" in page.words


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/add", {"email": "nobody", "categories": "bulk"}),
        ("/add", {"email": "ada@example.com"}),
        ("/add", {"email": "ada@example.com", "categories": "all"}),
        ("/remove", {"email": ""}),
        ("/remove", {"email": "ada@example.com", "origin": "x"}),
    ],
)
async def test_a_form_with_a_mistake_changes_nothing(
    answers: Answers, operator: Operator, path: str, fields: dict[str, str]
) -> None:
    """The mistake is named by its field."""
    page = await operator.act(PAGE, f"{PAGE}{path}", **fields)

    assert page.status == 400
    assert not any(isinstance(each, AddSuppressions | RemoveSuppressions) for each in answers.asked)
