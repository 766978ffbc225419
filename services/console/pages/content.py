"""Content types: their templates as a preview, their runs, and whether they are paused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

from aiohttp import web
from pydantic import TypeAdapter

from services.console.context import PageContext, given, read_form
from shared.contracts import (
    ContentRendered,
    ContentType,
    ContentTypeAnswered,
    ContentTypesListed,
    DescribeContentType,
    ListContentTypes,
    ListRuns,
    RenderContent,
    ResumeContentType,
    RunsListed,
)
from shared.links import UNSUBSCRIBE_VARIABLE

MAX_VARIABLES_CHARS = 20_000
_VARIABLES = TypeAdapter(dict[str, Any])
_NO_OBJECT = 'The variables must be a JSON object, such as {"name": "Ann"}.'
# The HTML of a mail may have styles and images of its own, and no script at all.
PREVIEW_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'self'; base-uri 'none'; form-action 'none'"
)


@dataclass(frozen=True, slots=True)
class ContentPages:
    """Shows what the scheduler keeps of content types."""

    context: PageContext

    def routes(self) -> Sequence[web.RouteDef]:
        """Return the routes."""
        return [
            web.get("/content", self.list),
            web.get("/content/{name}", self.show),
            web.get("/content/{name}/preview", self.preview),
            web.post("/content/{name}", self.resume),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Return the content types of all clients, or of one."""
        question = partial(self.context.question, ListContentTypes)
        listing = await self.context.listing(
            request, ("client", "after"), question, ContentTypesListed
        )
        return self.context.list_page(request, "content.html", listing)

    async def show(self, request: web.Request) -> web.Response:
        """Return a content type with a preview of its mail, and its latest runs."""
        key, variables = _key(request), request.query.get("variables", "")
        question = DescribeContentType.model_validate({"id": self.context.new_id(), **key})
        found = (await self.context.ask(question, ContentTypeAnswered)).content_type
        if found is None:
            raise web.HTTPNotFound(text="There is no such content type.")
        asked = {"id": self.context.new_id(), **key, **given(request.query, "after")}
        runs = await self.context.ask(ListRuns.model_validate(asked), RunsListed)
        mail, mistake = await self._rendered(key, variables)
        return self.context.page(
            request,
            "content_type.html",
            type=found,
            runs=runs.runs,
            more=runs.next and urlencode({**key, "after": runs.next.isoformat()}),
            mail=mail,
            mistake=mistake,
            variables=variables,
            preview=self._preview_path(found, variables),
        )

    def _preview_path(self, found: ContentType, variables: str) -> str:
        query = urlencode({"client": found.client or "", "variables": variables})
        return f"/content/{quote(found.name)}/preview?{query}"

    async def preview(self, request: web.Request) -> web.Response:
        """Return the HTML of a mail, for a frame in which nothing of it can run."""
        mail, mistake = await self._rendered(_key(request), request.query.get("variables", ""))
        text = mail.html if mail else None
        return web.Response(
            text=text or mistake or "",
            content_type="text/html" if text else "text/plain",
            headers={"Content-Security-Policy": PREVIEW_POLICY},
        )

    async def resume(self, request: web.Request) -> web.Response:
        """Resume a paused content type: its newsletters go out again."""
        form, name = await read_form(request), request.match_info["name"]
        key = {"name": name, **given(form, "client")}
        question = ResumeContentType.model_validate({"id": self.context.new_id(), **key})
        async with self.context.acting(request, "resume content type", name) as result:
            answer = await self.context.ask(question, ContentTypeAnswered)
            result.failed = answer.content_type is None
            result.text = "it is unknown" if result.failed else "its mails go out again"
        path = f"/content/{quote(name)}?{urlencode(given(form, 'client'))}"
        raise self.context.back(request, path, result)

    async def _rendered(
        self, key: Mapping[str, str], variables: str
    ) -> tuple[ContentRendered | None, str | None]:
        """Return the mail that a content type makes, or the mistake in its variables."""
        try:
            known = _read_variables(variables)
        except ValueError as error:
            return None, str(error)
        question = RenderContent.model_validate(
            {
                "id": self.context.new_id(),
                **key,
                "variables": {UNSUBSCRIBE_VARIABLE: "#", **known},
            }
        )
        mail = await self.context.ask(question, ContentRendered)
        if mail.busy:
            return None, "The scheduler makes too many mails just now. Try again."
        return (mail, None) if mail.mistake is None else (None, mail.mistake)


def _key(request: web.Request) -> dict[str, str]:
    return {"name": request.match_info["name"], **given(request.query, "client")}


def _read_variables(text: str) -> dict[str, Any]:
    """Return the variables of a form. Raises ValueError."""
    if not text.strip():
        return {}
    if len(text) > MAX_VARIABLES_CHARS:
        raise ValueError(f"The variables must have at most {MAX_VARIABLES_CHARS} characters.")
    try:
        return _VARIABLES.validate_json(text)
    except ValueError:
        raise ValueError(_NO_OBJECT) from None
