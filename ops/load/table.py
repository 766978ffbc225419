"""The domain table, as the gateway tells it."""

from collections.abc import Mapping
from typing import Any

from ops.load.door import Door
from ops.load.errors import LoadError
from ops.load.sightings import Counts, Plan

_PAGE = 1000  # domains; the most that the gateway gives


class Table:
    """Reads what is known of domains."""

    def __init__(self, door: Door) -> None:
        self._door = door

    async def events(self) -> int:
        """Tell how many events are counted, of all domains. Raises what `Door.ask` does."""
        try:
            told = await self._door.read("/v1/domains/stats")
            return int(told["delivered"] + told["bounced"])
        except (ValueError, TypeError, LookupError):
            raise LoadError("the server at the gateway's address is no gateway") from None

    async def counts(self, plan: Plan) -> Mapping[str, Counts]:
        """Read all domains of a run. Raises what `Door.ask` does."""
        found: dict[str, Counts] = {}
        after: str | None = plan.before
        while after is not None:  # until a page has another's domains, or is the last
            page = await self._door.read(f"/v1/domains?limit={_PAGE}&after={after}")
            ours = _of(plan, page["domains"])
            found |= ours
            after = page.get("next") if len(ours) == len(page["domains"]) else None
        return found


def _of(plan: Plan, domains: list[dict[str, Any]]) -> dict[str, Counts]:
    return {
        each["domain"]: Counts(each["delivered"], each["bounced"])
        for each in domains
        if each["domain"].startswith(plan.prefix)
    }
