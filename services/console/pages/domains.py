"""Recipient domains: which accept any address, and why that is believed."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from aiohttp import web

from services.console.context import PageContext, given
from shared.contracts import (
    CountDomains,
    DescribeDomain,
    DomainDescribed,
    DomainEvidence,
    DomainsCounted,
    DomainsListed,
    ListDomains,
    Verdict,
)

PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class DomainPages:
    """Shows what the classifier knows."""

    context: PageContext

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes."""
        return [web.get("/domains", self.show)]

    async def show(self, request: web.Request) -> web.Response:
        """Return one domain, or a page of all or of those of a verdict, with their numbers."""
        filters = given(request.query, "domain", "status", "after")
        counts = await self.context.ask(CountDomains(id=self.context.new_id()), DomainsCounted)
        domains, following = await self._found(filters)
        more = urlencode({**filters, "after": following}) if following else None
        return self.context.page(
            request,
            "domains.html",
            filters=filters,
            verdicts=list(Verdict),
            counts=counts,
            domains=domains,
            more=more,
        )

    async def _found(self, filters: dict[str, str]) -> tuple[Sequence[DomainEvidence], str | None]:
        if domain := filters.get("domain"):
            one = DescribeDomain(id=self.context.new_id(), domain=domain)
            return [await self.context.ask(one, DomainDescribed)], None
        fields = {"id": self.context.new_id(), "limit": PAGE_SIZE, **filters}
        page = await self.context.ask(ListDomains.model_validate(fields), DomainsListed)
        return page.domains, page.next
