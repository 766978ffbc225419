"""Recipient domains: the evidence on one of them, on all of them, and their numbers."""

from datetime import datetime

from aiohttp import web
from pydantic import Field

from services.gateway.api.body import StrictModel, read_query
from services.gateway.api.openapi import Operation, Success
from services.gateway.api.problem import INVALID, Problem
from services.gateway.api.response import AskingViews, ResponseBody, respond
from shared.contracts import (
    CountDomains,
    DescribeDomain,
    DomainDescribed,
    DomainsCounted,
    DomainsListed,
    ListDomains,
    Verdict,
    address,
    fields,
)
from shared.contracts.clients import Scope
from shared.contracts.domains import MAX_LISTED

DEFAULT_PAGE_SIZE = 100  # domains


class Page(StrictModel):
    """The query for a page of the domains."""

    status: Verdict | None = Field(None, description="Only those; all if absent")
    after: fields.Domain | None = Field(None, description="`next` of the page before")
    limit: int = Field(DEFAULT_PAGE_SIZE, ge=1, le=MAX_LISTED, description="Domains a page")

    def question(self, identifier: str) -> ListDomains:
        """Return the question, unchecked: its fields were checked by the same rules."""
        return ListDomains.model_construct(id=identifier, **self.__dict__)


class Domain(ResponseBody):
    """The evidence on a domain: the deliveries and bounces so far."""

    domain: str = Field(description="In lower case, as A-labels")
    status: Verdict
    delivered: int
    bounced: int = Field(description="Refused since there is no such mailbox")
    since: datetime | None = Field(None, description="Its first event; absent if never seen")
    last_event_at: datetime | None = None
    reason: str = Field(description="The counts and the rule that decide, in words")
    refusals: dict[str, int] = Field(
        description="All others, by the class of the reply; they are no evidence"
    )
    recipients: int | None = Field(
        None, description="Distinct ones delivered to, estimated; in the mode `evidence` alone"
    )
    taken_back: int | None = Field(
        None, description="Deliveries whose bounce came late; in the mode `evidence` alone"
    )


class Domains(ResponseBody):
    """A page of the domains that are known, by name."""

    domains: list[Domain]
    next: str | None = Field(None, description="`after` of the next page; absent at the last one")


class DomainCounts(ResponseBody):
    """The numbers of domains and events that are known."""

    catch_all: int
    not_catch_all: int
    unknown: int
    total: int
    delivered: int
    bounced: int


LIST_DOMAINS = Operation(
    "listDomains",
    "GET /v1/domains",
    "List the domains that are known",
    (Success(200, "A page of them, by name", Domains),),
    scope=Scope.READ,
    query=Page,
)
COUNT_DOMAINS = Operation(
    "countDomains",
    "GET /v1/domains/stats",
    "Count the domains and events that are known",
    (Success(200, "Their numbers", DomainCounts),),
    scope=Scope.READ,
)
GET_DOMAIN = Operation(
    "getDomain",
    "GET /v1/domains/{domain}",
    "Ask whether a domain takes mail for any address",
    (Success(200, "The evidence; a domain never seen is unknown", Domain),),
    scope=Scope.READ,
)


class DomainViews(AskingViews):
    """Asks the classifier about domains."""

    async def list(self, request: web.Request) -> web.Response:
        """Return a page of the domains."""
        question = read_query(Page, request.query).question(self.new_id())
        page = await self.ask(question, DomainsListed)
        domains = [Domain.copied_from(each) for each in page.domains]
        return respond(200, Domains(domains=domains, next=page.next))

    async def count(self, _: web.Request) -> web.Response:
        """Return the numbers of domains and events."""
        counted = await self.ask(CountDomains(id=self.new_id()), DomainsCounted)
        return respond(200, DomainCounts.copied_from(counted))

    async def get(self, request: web.Request) -> web.Response:
        """Return the evidence on a domain."""
        domain = read_domain(request.match_info["domain"])
        question = DescribeDomain(id=self.new_id(), domain=domain)
        evidence = await self.ask(question, DomainDescribed)
        return respond(200, Domain.copied_from(evidence))


def read_domain(text: str) -> str:
    """Return a domain of a path in its canonical form. Raises Problem."""
    try:
        return address.check_domain(text)
    except ValueError as error:
        raise Problem(INVALID, f"The domain {error}.") from None
