"""Recipient domains: which accept any address, and why that is believed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from aiohttp import web

from services.console.context import PageContext
from shared.contracts import (
    CountDomains,
    DescribeDomain,
    DomainDescribed,
    DomainsCounted,
    DomainsListed,
    ListDomains,
    Verdict,
)

PAGE_SIZE = 50
FILTERS = ("domain", "status", "after")


@dataclass(frozen=True, slots=True)
class DomainPages:
    """Shows what the classifier knows."""

    context: PageContext

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes."""
        return [web.get("/domains", self.show)]

    async def show(self, request: web.Request) -> web.Response:
        """Return one domain, or a page of all or of those of a verdict, with their numbers."""
        counts = await self.context.ask(CountDomains(id=self.context.new_id()), DomainsCounted)
        kind = DomainDescribed if request.query.get("domain", "").strip() else DomainsListed
        listing = await self.context.listing(request, FILTERS, self._question, kind)
        found = listing.found
        domains = [found] if isinstance(found, DomainDescribed) else getattr(found, "domains", ())
        return self.context.list_page(
            request,
            "domains.html",
            listing,
            verdicts=list(Verdict),
            counts=counts,
            domains=domains,
        )

    def _question(self, filters: Mapping[str, str]) -> DescribeDomain | ListDomains:
        if "domain" in filters:
            return self.context.question(DescribeDomain, filters)
        return self.context.question(ListDomains, {"limit": PAGE_SIZE, **filters})
