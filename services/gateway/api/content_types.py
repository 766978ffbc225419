"""Content types: the templates of newsletters and of single messages, kept by the scheduler."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Self

from aiohttp import web
from pydantic import ConfigDict, Field, JsonValue, StringConstraints

from services.gateway.api.body import RequestBody, StrictModel, read_query
from services.gateway.api.openapi import Access, Operation, Success
from services.gateway.api.problem import (
    CONTENT_TYPE_EXISTS,
    CONTENT_TYPE_IN_USE,
    NO_SUCH_CONTENT_TYPE,
    TEMPLATE_INVALID,
    Mistake,
    Problem,
    invalid,
    overloaded,
)
from services.gateway.api.request import REPEATABLE, client_of
from services.gateway.api.response import AskingViews, ResponseBody, respond
from shared.contracts import (
    ContentRendered,
    ContentResult,
    ContentSummary,
    ContentType,
    ContentTypeAnswered,
    ContentTypesListed,
    DeleteContentType,
    DescribeContentType,
    ListContentTypes,
    RenderContent,
    ResumeContentType,
    SaveContentType,
)
from shared.contracts.clients import Scope
from shared.contracts.content import (
    MAX_LISTED_CONTENT_TYPES,
    ContentCursor,
    HtmlTemplate,
    Title,
)
from shared.contracts.fields import ID, Id, Text
from shared.contracts.ledger import OwnerName
from shared.links import UNSUBSCRIBE_VARIABLE
from shared.template import (
    MAX_TEMPLATE_CHARS,
    MailTemplate,
    TemplateMistake,
    VariableMistake,
    measure,
)

MAX_SUBJECT_TEMPLATE_CHARS = 4096


_NAME = re.compile(ID)
_TEMPLATE_SIZE = StringConstraints(max_length=MAX_TEMPLATE_CHARS)
_Template = Annotated[Text, _TEMPLATE_SIZE]
_EXAMPLE: dict[str, JsonValue] = {
    "subject": "News for {{ name }}",
    "content": "<h1>Hello {{ name }}</h1>",
    "title": "News of the shop",
}


class ContentTypeChange(RequestBody):
    """The templates of a content type, in the language of Jinja2 without its calls."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})
    max_bytes = None

    subject: Annotated[Text, StringConstraints(max_length=MAX_SUBJECT_TEMPLATE_CHARS)]
    content: Annotated[HtmlTemplate, _TEMPLATE_SIZE] = Field(
        repr=False, description="HTML; variables are escaped"
    )
    text: _Template | None = Field(
        None, repr=False, description="Derived from the HTML of each mail if absent"
    )
    title: Title | None = Field(None, description="The list's name as its readers see it")


class NewContentType(ContentTypeChange):
    """Asks for a content type to be created."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"content_type": "news", **_EXAMPLE}]}
    )

    content_type: Id = Field(description="Its name")


class ContentVariables(RequestBody):
    """The variables of a preview."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"variables": {"name": "Ada"}}]})
    max_bytes = None

    variables: Mapping[str, Any] = Field(default_factory=dict, repr=False)


class ContentOwnerQuery(StrictModel):
    """The query for one content type."""

    client: OwnerName | None = Field(
        None,
        description="Of the administrator alone: the client whose content type it is. Names are "
        "the clients' own, so several may have the same",
    )


class ContentTypeQuery(StrictModel):
    """The query for a page of content types."""

    after: ContentCursor | None = Field(None, description="`next` of the page before")
    limit: int = Field(MAX_LISTED_CONTENT_TYPES, ge=1, le=MAX_LISTED_CONTENT_TYPES)


class ContentTypeSummary(ResponseBody):
    """A content type without its templates."""

    content_type: str
    client: str | None = None
    version: int = Field(description="One more with each change")
    subject: str
    title: str | None = None
    created_at: datetime
    changed_at: datetime
    paused_at: datetime | None = Field(None, description="No newsletter goes out from then on")
    paused_for: str | None = Field(None, description="In words")

    @classmethod
    def of(cls, found: ContentSummary) -> Self:
        """Return the body of a content type."""
        fields = {**found.__dict__, "content_type": found.name}
        if isinstance(found, ContentType):
            fields["content"] = found.html
        return cls.model_validate({name: fields[name] for name in cls.model_fields})


class ContentTypeBody(ContentTypeSummary):
    """A content type with its templates."""

    content: str
    text: str | None = None


class ContentTypePage(ResponseBody):
    """A page of content types, by name."""

    content_types: list[ContentTypeSummary]
    next: str | None = Field(None, description="`after` of the next page; absent at the last one")


class ContentPreview(ResponseBody):
    """A mail as it would be sent; the link to unsubscribe of a newsletter leads nowhere."""

    subject: str
    html: str
    text: str


POST_CONTENT_TYPE = Operation(
    "postContentType",
    "POST /v1/content-types",
    "Create a content type",
    (Success(201, "It is kept", ContentTypeBody, headers=("Location",)),),
    scope=Scope.SEND,
    body=NewContentType,
    problems=(CONTENT_TYPE_EXISTS, TEMPLATE_INVALID),
)
PUT_CONTENT_TYPE = Operation(
    "putContentType",
    "PUT /v1/content-types/{name}",
    "Replace a content type by a new version",
    (Success(200, "It is kept; the next mails are made of it", ContentTypeBody),),
    scope=Scope.SEND,
    body=ContentTypeChange,
    problems=(NO_SUCH_CONTENT_TYPE, TEMPLATE_INVALID),
)
GET_CONTENT_TYPE = Operation(
    "getContentType",
    "GET /v1/content-types/{name}",
    "Read a content type",
    (Success(200, "The newest version", ContentTypeBody),),
    Access.ANY,
    Scope.SEND,
    query=ContentOwnerQuery,
    problems=(NO_SUCH_CONTENT_TYPE,),
)
LIST_CONTENT_TYPES = Operation(
    "listContentTypes",
    "GET /v1/content-types",
    "List content types",
    (Success(200, "A page of them", ContentTypePage),),
    Access.ANY,
    Scope.SEND,
    query=ContentTypeQuery,
)
DELETE_CONTENT_TYPE = Operation(
    "deleteContentType",
    "DELETE /v1/content-types/{name}",
    "Delete a content type",
    (Success(204, "There is none", media_type=None),),
    scope=Scope.SEND,
    problems=(NO_SUCH_CONTENT_TYPE, CONTENT_TYPE_IN_USE),
)
PREVIEW_CONTENT_TYPE = Operation(
    "previewContentType",
    "POST /v1/content-types/{name}/preview",
    "Make a mail of a content type without sending it",
    (Success(200, "The mail", ContentPreview),),
    scope=Scope.SEND,
    body=ContentVariables,
    problems=(NO_SUCH_CONTENT_TYPE,),
)
RESUME_CONTENT_TYPE = Operation(
    "resumeContentType",
    "POST /v1/content-types/{name}/resume",
    "Let a paused content type send its newsletters again",
    (Success(200, "It is not paused", ContentTypeBody),),
    Access.ANY,
    Scope.SEND,
    query=ContentOwnerQuery,
    problems=(NO_SUCH_CONTENT_TYPE,),
    description="What was due while it was paused is mailed as after a time without a scheduler.",
)


class ContentTypeViews(AskingViews):
    """Asks the scheduler about content types."""

    async def post(self, request: web.Request) -> web.Response:
        """Create a content type."""
        new, _ = await self.reader.read(request, NewContentType)
        answer = await self._save(request, new.content_type, new, replaces=False)
        if answer.result is ContentResult.EXISTS:
            raise Problem(CONTENT_TYPE_EXISTS)
        return _described(answer, 201, {"Location": f"/v1/content-types/{new.content_type}"})

    async def put(self, request: web.Request) -> web.Response:
        """Replace a content type."""
        request[REPEATABLE] = True
        change, _ = await self.reader.read(request, ContentTypeChange)
        return _described(await self._save(request, read_name(request), change, replaces=True))

    async def get(self, request: web.Request) -> web.Response:
        """Return a content type."""
        found = await find_content_type(self, *read_key(request, _read_owner(request)))
        return respond(200, ContentTypeBody.of(found))

    async def list(self, request: web.Request) -> web.Response:
        """Return a page of content types."""
        query = read_query(ContentTypeQuery, request.query)
        question = ListContentTypes(
            id=self.new_id(), client=client_of(request), **query.model_dump()
        )
        page = await self.ask(question, ContentTypesListed)
        found = [*map(ContentTypeSummary.of, page.content_types)]
        return respond(200, ContentTypePage(content_types=found, next=page.next))

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a content type."""
        question = DeleteContentType(
            id=self.new_id(), client=client_of(request), name=read_name(request)
        )
        answer = await self.ask(question, ContentTypeAnswered)
        if answer.result is ContentResult.IN_USE:
            raise Problem(CONTENT_TYPE_IN_USE)
        if answer.result is ContentResult.UNKNOWN:
            raise Problem(NO_SUCH_CONTENT_TYPE)
        return web.Response(status=204)

    async def preview(self, request: web.Request) -> web.Response:
        """Return a mail made of a content type."""
        given, _ = await self.reader.read(request, ContentVariables)
        variables = {UNSUBSCRIBE_VARIABLE: "#", **given.variables}
        mail = await self.render(request, read_name(request), variables)
        return respond(
            200,
            ContentPreview(subject=mail.subject or "", html=mail.html or "", text=mail.text or ""),
        )

    async def resume(self, request: web.Request) -> web.Response:
        """Send the newsletters of a content type again."""
        request[REPEATABLE] = True
        client, name = read_key(request, _read_owner(request))
        question = ResumeContentType(id=self.new_id(), client=client, name=name)
        return _described(await self.ask(question, ContentTypeAnswered))

    async def render(
        self,
        request: web.Request,
        name: str,
        variables: Mapping[str, Any],
        pointer: str = "#/variables",
    ) -> ContentRendered:
        """Return a mail made of a content type. Raises Problem for a mistake in its variables."""
        check_variables(variables, pointer)
        question = RenderContent(
            id=self.new_id(), client=client_of(request), name=name, variables=dict(variables)
        )
        mail = await self.ask(question, ContentRendered)
        if mail.version is None:
            raise Problem(NO_SUCH_CONTENT_TYPE)
        if mail.busy:
            raise overloaded("Too many mails are being made of content types.")
        if mail.mistake is not None:
            raise invalid(pointer, mail.mistake)
        return mail

    async def _save(
        self, request: web.Request, name: str, given: ContentTypeChange, *, replaces: bool
    ) -> ContentTypeAnswered:
        try:
            MailTemplate(given.subject, given.text, given.content)
        except TemplateMistake as error:
            part = {"html": "content"}.get(error.part, error.part)
            errors = [Mistake(f"#/{part}", str(error))]
            raise Problem(TEMPLATE_INVALID, errors=errors) from None
        question = SaveContentType(
            id=self.new_id(),
            client=client_of(request),
            name=name,
            replaces=replaces,
            subject=given.subject,
            title=given.title,
            html=given.content,
            text=given.text,
        )
        return await self.ask(question, ContentTypeAnswered)


def check_variables(variables: Mapping[str, Any], pointer: str = "#/variables") -> None:
    """Raise Problem for variables that no mail can have."""
    try:
        measure(variables)
    except VariableMistake as error:
        raise invalid(pointer, str(error)) from None


async def find_content_type(views: AskingViews, client: str | None, name: str) -> ContentType:
    """Return a content type. Raises Problem, Unavailable or NoAnswer."""
    question = DescribeContentType(id=views.new_id(), client=client, name=name)
    found = (await views.ask(question, ContentTypeAnswered)).content_type
    if found is None:
        raise Problem(NO_SUCH_CONTENT_TYPE)
    return found


def read_key(
    request: web.Request, query: ContentOwnerQuery | None = None
) -> tuple[str | None, str]:
    """Return the client and the name of a content type.

    The administrator names the client in the query; a client has only its own.
    """
    client = client_of(request)
    if client is None and query is not None:
        client = query.client or None
    return client, read_name(request)


def _read_owner(request: web.Request) -> ContentOwnerQuery:
    return read_query(ContentOwnerQuery, request.query)


def read_name(request: web.Request) -> str:
    """Return the name in a path. Raises Problem for one that no content type has."""
    name = request.match_info["name"]
    if not _NAME.fullmatch(name):
        raise Problem(NO_SUCH_CONTENT_TYPE)
    return name


def _described(
    answer: ContentTypeAnswered, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    found = answer.content_type
    if found is None:
        raise Problem(NO_SUCH_CONTENT_TYPE)
    body = ContentTypeBody.of(found)
    return respond(status, body, headers)
