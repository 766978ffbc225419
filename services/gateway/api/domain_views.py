"""What the evidence says of domains, over HTTP."""

from dataclasses import dataclass

from aiohttp import web

from services.gateway.api import domains
from services.gateway.api.answers import Domain, DomainCounts, Domains
from services.gateway.api.reply import answer
from services.gateway.intake import RequestReader
from services.gateway.road import Road, unexpected
from shared.contracts import (
    CountDomains,
    DescribeDomain,
    DomainDescribed,
    DomainsCounted,
    DomainsListed,
)


@dataclass(frozen=True, slots=True)
class DomainViews:
    """Asks about domains; `within` are the seconds for an answer."""

    intake: RequestReader
    road: Road
    within: float

    async def get(self, request: web.Request) -> web.Response:
        """Tell what is known of a domain."""
        domain = domains.read(request.match_info["domain"])
        question = DescribeDomain(id=self.intake.now().id, domain=domain)
        match await self.road.ask(question, self.within):
            case DomainDescribed() as known:
                return answer(200, Domain.of(known))
            case other:
                raise unexpected(other)

    async def list(self, request: web.Request) -> web.Response:
        """Tell what is known of all domains, a page at a time."""
        question = domains.page(request.query).question(self.intake.now().id)
        match await self.road.ask(question, self.within):
            case DomainsListed() as page:
                known = [Domain.of(each) for each in page.domains]
                return answer(200, Domains(domains=known, next=page.next))
            case other:
                raise unexpected(other)

    async def count(self, _: web.Request) -> web.Response:
        """Tell how many domains and events there are."""
        match await self.road.ask(CountDomains(id=self.intake.now().id), self.within):
            case DomainsCounted() as counted:
                return answer(200, DomainCounts.of(counted))
            case other:
                raise unexpected(other)
