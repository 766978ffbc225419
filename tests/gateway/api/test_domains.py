"""Domains over HTTP, on a real broker with a fake classifier."""

import pytest

from services.gateway.api import domains
from services.gateway.api.problem import Problem
from shared import topology
from shared.contracts import (
    CountDomains,
    DescribeDomain,
    DomainDescribed,
    DomainsCounted,
    DomainsListed,
    ListDomains,
    Verdict,
)
from shared.contracts.domains import DomainEvidence
from tests.gateway.api_client import ApiClient
from tests.gateway.fake_service import NOW, FakeService, running_service

KNOWN = {
    "domain": "example.com",
    "status": "catch-all",
    "delivered": 1001,
    "bounced": 0,
    "since": "2026-11-01T00:00:00Z",
    "last_event_at": "2026-11-01T00:00:00Z",
    "reason": "1001 delivered, none bounced",
    "refusals": {"policy": 3},
}


def describe(question: DescribeDomain) -> list[DomainDescribed]:
    """Return the same evidence for every domain."""
    return [
        DomainDescribed(
            id=question.id,
            domain=question.domain,
            status=Verdict.CATCH_ALL,
            delivered=1001,
            bounced=0,
            since=NOW,
            last_event_at=NOW,
            reason="1001 delivered, none bounced",
            refusals={"policy": 3},
        )
    ]


async def test_a_domain_is_described(api: ApiClient, vhost: str) -> None:
    """A domain's response has the classifier's evidence and its reason."""
    async with running_service(
        vhost, topology.CLASSIFIER_QUESTIONS, {DescribeDomain: FakeService(describe)}
    ):
        answer = await api.call("GET", "/v1/domains/Example.COM.")

    assert (answer.status, answer.json) == (200, KNOWN)


async def test_domains_are_listed_by_cursor(api: ApiClient, vhost: str) -> None:
    """A page has the domains of the query, and the cursor of the next page."""
    evidence = DomainEvidence.model_validate(KNOWN)
    classifier = FakeService(
        lambda it: [DomainsListed(id=it.id, domains=(evidence,), next="example.com")]
    )
    async with running_service(vhost, topology.CLASSIFIER_QUESTIONS, {ListDomains: classifier}):
        bare = await api.call("GET", "/v1/domains")
        query = "status=catch-all&after=B%C3%BCcher.example&limit=7"
        narrow = await api.call("GET", f"/v1/domains?{query}")

    assert (bare.status, bare.json) == (200, {"domains": [KNOWN], "next": "example.com"})
    assert narrow.status == 200
    asked = [(each.status, each.after, each.limit) for each in classifier.got]
    assert asked == [(None, None, 100), (Verdict.CATCH_ALL, "xn--bcher-kva.example", 7)]


async def test_a_mistake_in_a_query_has_its_place(api: ApiClient) -> None:
    """A wrong query is a 422 that names the parameter."""
    for query, pointer in (
        ("status=maybe", "#/status"),
        ("limit=0", "#/limit"),
        ("limit=1001", "#/limit"),
        ("after=localhost", "#/after"),
        ("page=2", "#/page"),
        ("limit=1&limit=2", "#/limit"),
    ):
        answer = await api.call("GET", f"/v1/domains?{query}")

        assert (answer.status, answer.json["code"]) == (422, "invalid")
        assert [each["pointer"] for each in answer.json["errors"]] == [pointer]


async def test_domains_are_counted(api: ApiClient, vhost: str) -> None:
    """The path `stats` counts domains; it is not read as a domain."""
    counted = {
        "catch_all": 1,
        "not_catch_all": 2,
        "unknown": 3,
        "total": 6,
        "delivered": 1234,
        "bounced": 5,
    }
    classifier = FakeService(lambda it: [DomainsCounted(id=it.id, **counted)])
    async with running_service(vhost, topology.CLASSIFIER_QUESTIONS, {CountDomains: classifier}):
        answer = await api.call("GET", "/v1/domains/stats")

    assert (answer.status, answer.json) == (200, counted)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [("example.com", "example.com"), ("EXAMPLE.com.", "example.com"), ("bücher.example", None)],
)
def test_a_domain_comes_out_canonical(text: str, canonical: str | None) -> None:
    """A domain is read into lower case and A-labels, without a trailing dot."""
    assert domains.read_domain(text) == (canonical or "xn--bcher-kva.example")


@pytest.mark.parametrize(
    "text", ["localhost", "a b.example", "127.0.0.1", "a/b.example", "é" * 9999]
)
def test_a_path_without_a_domain_is_a_422(text: str) -> None:
    """A path without a mail domain is a 422."""
    with pytest.raises(Problem) as caught:
        domains.read_domain(text)

    assert caught.value.type.status == 422
