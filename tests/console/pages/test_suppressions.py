"""The suppression list: looked up, added to, removed from."""

import pytest

from shared.contracts import (
    AddSuppressions,
    Category,
    ClientAnswered,
    ClientResult,
    DescribeClient,
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
            ("list_id", ""),
        ),
        *(("categories", "bulk"), ("categories", "otp"), ("reason", "asked by phone")),
    ]
    async with operator.http.post(f"{operator.url}{PAGE}/add", data=form) as answer:
        text = await answer.text()
    (entry,) = answers.last(AddSuppressions).suppressions
    audit = (await operator.get("/audit")).words

    assert "it gets no mail of these classes any more: bulk, otp (of all clients)" in text
    assert (entry.email, entry.client, entry.list_id) == ("ada@example.com", None, None)
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
    assert "1 entry removed" in page.words


async def test_the_result_names_the_client_and_the_list(
    answers: Answers, operator: Operator
) -> None:
    """Other mail still goes out; a client that nobody has registered may be a slip."""
    fields = {"email": "ünï@b.example", "categories": "bulk", "list_id": "weekly"}
    known = await operator.act(PAGE, f"{PAGE}/add", **fields, client="shop")
    answers.set(DescribeClient, ClientAnswered, client=None, result=ClientResult.UNKNOWN)
    unknown = await operator.act(PAGE, f"{PAGE}/add", **fields, client="shopp")

    assert "bulk (of the client shop, list weekly)" in known.words
    assert "No client" not in known.words
    assert "No client shopp is registered" in unknown.words
    assert answers.last(AddSuppressions).suppressions[0].client == "shopp"


@pytest.mark.parametrize(
    ("fields", "mistake"),
    [
        ({"email": "nobody", "categories": "bulk"}, "must be"),
        ({"email": "ada@example.com"}, "choose at least one class"),
        ({"email": "ada@example.com", "categories": "all"}, "all must be"),
        ({"email": "ada@example.com", "categories": "bulk", "client": "a b"}, "must be 1 to 100"),
        (
            {"email": "ada@example.com", "categories": "transactional", "list_id": "news"},
            "must be bulk alone for one list",
        ),
    ],
)
async def test_a_mistake_is_shown_beside_what_was_typed(
    answers: Answers, operator: Operator, fields: dict[str, str], mistake: str
) -> None:
    """Nothing is typed again; the rule is that of the contract, as at every other door."""
    page = await operator.act(PAGE, f"{PAGE}/add", **fields, reason="by phone")

    assert page.status == 422
    assert 'class="mistake"' in page.text
    assert mistake in page.words
    assert 'value="by phone"' in page.text
    assert f'value="{fields["email"]}"' in page.text
    assert not any(isinstance(each, AddSuppressions) for each in answers.asked)


async def test_a_wrong_address_is_named_as_its_field(answers: Answers, operator: Operator) -> None:
    """The mistake in a filter has the words of the page; browsers leave addresses to the rule."""
    page = await operator.get(f"{PAGE}?email=nobody")

    assert page.status == 400
    assert "Nothing was looked up: Address: must" in page.words
    assert 'type="email"' not in page.text
    assert not any(isinstance(each, DescribeSuppression) for each in answers.asked)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
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
