"""Domains with their verdict and its reason."""

import pytest

from shared.contracts import DescribeDomain, DomainsListed, ListDomains, Verdict
from tests.console.answers import Answers
from tests.console.operator import Operator

pytestmark = pytest.mark.rabbit


async def test_a_domain_is_shown_with_the_reason(answers: Answers, operator: Operator) -> None:
    """The name is read as the classifier keeps it; the reason does not repeat the verdict."""
    page = await operator.get("/domains?domain=Example.COM")

    assert answers.last(DescribeDomain).domain == "example.com"
    assert "catch-all 1001 delivered, more than 1000, and no bounce" in page.words
    assert not any(isinstance(each, ListDomains) for each in answers.asked)


async def test_domains_of_a_verdict_are_listed(answers: Answers, operator: Operator) -> None:
    """Without one, all are; an empty list says what to do."""
    await operator.get("/domains?status=catch-all&domain=")
    asked = answers.last(ListDomains)
    answers.set(ListDomains, DomainsListed, domains=(), next=None)
    nothing = await operator.get("/domains")

    assert asked.status is Verdict.CATCH_ALL
    assert "there is nothing to do" in nothing.words


async def test_a_name_that_is_none_is_explained(answers: Answers, operator: Operator) -> None:
    """The classifier is not asked."""
    page = await operator.get("/domains?domain=not+a+domain")

    assert page.status == 400
    assert not any(isinstance(each, DescribeDomain) for each in answers.asked)
