"""Pure: domains in paths and questions."""

from multidict import MultiMapping
from pydantic import Field, ValidationError

from services.gateway.api import wording
from services.gateway.api.body import StrictModel
from services.gateway.api.problem import INVALID, Mistake, Problem
from shared.contracts import ListDomains, Verdict, address
from shared.contracts.domains import MAX_LISTED
from shared.contracts.fields import Domain

PAGE = 100  # domains, if nothing is said


class Page(StrictModel):
    """Which of the domains to tell."""

    status: Verdict | None = Field(None, description="Only those; all if absent")
    after: Domain | None = Field(None, description="`next` of the page before")
    limit: int = Field(PAGE, ge=1, le=MAX_LISTED, description="Domains a page")

    def question(self, identifier: str) -> ListDomains:
        """Give the question; its fields were checked by the same rules."""
        return ListDomains.model_construct(id=identifier, **self.__dict__)


def read(text: str) -> str:
    """Give a domain of a path in its canonical form. Raises Problem."""
    try:
        return address.check_domain(text)
    except ValueError as error:
        raise Problem(INVALID, f"The domain {error}.") from None


def page(query: MultiMapping[str]) -> Page:
    """Read a query, each parameter once. Raises Problem."""
    twice = [name for name in Page.model_fields if len(query.getall(name, ())) > 1]
    if twice:
        raise Problem(INVALID, errors=[Mistake(f"#/{name}", "is given twice") for name in twice])
    try:
        return Page.model_validate(dict(query))
    except ValidationError as error:
        raise Problem(INVALID, errors=wording.mistakes(error)) from None
