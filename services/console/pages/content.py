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

MAX_VARIABLES_CHARS = 100_000  # of the JSON; the scheduler counts the values and their texts
VARIABLES, PREVIEW = "/variables", "/preview"
_VARIABLES = TypeAdapter(dict[str, Any])
_NO_OBJECT = 'The variables must be a JSON object, such as {"name": "Ann"}.'
_UNKNOWN = "There is no such content type."
_NO_CLIENT = " Without a client in the address only those of the administrator are looked for."
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
            web.post(f"/content/{{name}}{VARIABLES}", self.show),
            web.get(f"/content/{{name}}{PREVIEW}", self.preview),
            web.post(f"/content/{{name}}{PREVIEW}", self.preview),
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
        key, variables = _key(request), await _given_variables(request)
        found = await self._found(key)
        if found is None:
            raise web.HTTPNotFound(text=_UNKNOWN if "client" in key else _UNKNOWN + _NO_CLIENT)
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
        )

    async def _found(self, key: Mapping[str, str]) -> ContentType | None:
        question = DescribeContentType.model_validate({"id": self.context.new_id(), **key})
        return (await self.context.ask(question, ContentTypeAnswered)).content_type

    async def preview(self, request: web.Request) -> web.Response:
        """Return the HTML of a mail, for a frame in which nothing of it can run."""
        mail, mistake = await self._rendered(_key(request), await _given_variables(request))
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
            found = await self._found(key)
            if found is not None and found.paused_at is not None:
                found = (await self.context.ask(question, ContentTypeAnswered)).content_type
                result.text = "its mails go out again"
            else:
                result.text = "nothing is changed: it was not paused, and its mails go out"
            if found is None:
                result.text, result.failed = "there is no such content type any more", True
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


async def _given_variables(request: web.Request) -> str:
    """Return the variables of a form; they are personal, and too long for a URL."""
    return (await read_form(request)).get("variables", "") if request.method == "POST" else ""


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
