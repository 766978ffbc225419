"""Suppressed addresses: looked up, listed, added and removed, one by one or many at once."""

from datetime import datetime
from typing import Annotated, Literal, Self

from aiohttp import web
from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from services.gateway.api.body import RFC3339_TIME, RequestBody, StrictModel, read_query
from services.gateway.api.openapi import Access, Operation, Success
from services.gateway.api.problem import (
    INVALID,
    NOT_SUPPRESSED,
    SUPPRESSED_FOR_ALL,
    Problem,
    invalid,
)
from services.gateway.api.request import REPEATABLE, client_of
from services.gateway.api.response import AskingViews, ResponseBody, respond
from shared.contracts import (
    AddSuppressions,
    Category,
    DescribeSuppression,
    ListSuppressions,
    NewSuppression,
    RemoveSuppressions,
    Suppression,
    SuppressionOrigin,
    SuppressionsChanged,
    SuppressionsListed,
    address,
)
from shared.contracts.clients import Scope
from shared.contracts.fields import MAX_MAILBOX_CHARS, Address, Id, Moment
from shared.contracts.suppressions import (
    MAX_CHANGES,
    MAX_LISTED_SUPPRESSIONS,
    MAX_MANY_BYTES,
    Categories,
    ReasonText,
    SuppressionCursor,
    stopped_categories,
)

DEFAULT_PAGE_SIZE = 100  # entries

_Categories = Annotated[Categories, Field(json_schema_extra={"minItems": 1})]


class SuppressionQuery(StrictModel):
    """The query for a page of the entries."""

    origin: SuppressionOrigin | None = Field(None, description="Only those; all if absent")
    after: SuppressionCursor | None = Field(None, description="`next` of the page before")
    limit: int = Field(
        DEFAULT_PAGE_SIZE, ge=1, le=MAX_LISTED_SUPPRESSIONS, description="Entries a page"
    )


class SuppressionChange(RequestBody):
    """Asks for an address to get no mail of some categories; by default of all but codes."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"categories": ["bulk"], "reason": "asked by telephone"}]}
    )

    categories: _Categories | None = Field(
        None,
        description="The mail that is stopped; transactional and bulk if absent, bulk with a "
        "`list_id` or the origin unsubscribe",
    )
    origin: Literal[SuppressionOrigin.MANUAL, SuppressionOrigin.UNSUBSCRIBE] = (
        SuppressionOrigin.MANUAL
    )
    list_id: Id | None = Field(None, description="Bulk mail of this list alone; of all if absent")
    reason: ReasonText = Field("", description="In words")
    expires_at: Annotated[Moment | None, RFC3339_TIME] = Field(
        None, description="Without effect from then on"
    )

    @model_validator(mode="after")
    def _stops_bulk_of_a_list(self) -> Self:
        self._stopped()
        return self

    def _stopped(self) -> tuple[Category, ...]:
        return stopped_categories(self.categories, self.list_id, self.origin)

    def entry(self, email: str, client: str | None) -> NewSuppression:
        """Return the entry of an address."""
        return NewSuppression(
            email=email,
            client=client,
            categories=self._stopped(),
            **self.model_dump(include={"origin", "list_id", "reason", "expires_at"}),
        )


def _as_object(value: object) -> object:
    return {"email": value} if isinstance(value, str) else value


class AddressChange(SuppressionChange):
    """An address that is to get no mail of some categories."""

    email: Address = Field(repr=False)


_AddressChange = Annotated[
    AddressChange,
    BeforeValidator(_as_object, json_schema_input_type=AddressChange | Address),
]


class SuppressionBatch(RequestBody):
    """Asks for up to 1,000 addresses to be suppressed, or suppressed no more."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "add": [{"email": "ada@mail.example", "categories": ["bulk"]}],
                    "remove": ["bob@mail.example"],
                }
            ]
        }
    )
    max_bytes = MAX_MANY_BYTES

    add: Annotated[list[_AddressChange], Field(max_length=MAX_CHANGES, fail_fast=True)] = Field(
        [], description="Addresses, or objects as in PUT with an `email`"
    )
    remove: Annotated[list[Address], Field(max_length=MAX_CHANGES, fail_fast=True)] = Field([])

    @model_validator(mode="after")
    def _changes_each_address_once(self) -> Self:
        if not 0 < len(self.add) + len(self.remove) <= MAX_CHANGES:
            raise ValueError(f"must have 1 to {MAX_CHANGES} addresses")
        if not {each.email.lower() for each in self.add}.isdisjoint(map(str.lower, self.remove)):
            raise ValueError("must not add and remove one address")
        return self


class SuppressionEntry(ResponseBody):
    """An address that gets no mail of some categories."""

    email: str | None = Field(None, description="Absent once the person was forgotten")
    client: str | None = Field(None, description="Whose mail is stopped; that of all if absent")
    list_id: str | None = Field(None, description="Mail of this list alone; of all if absent")
    categories: list[Category]
    origin: SuppressionOrigin
    reason: str
    source_id: str | None = Field(None, description="The message that led to the entry")
    created_at: datetime
    expires_at: datetime | None = None

    @classmethod
    def of(cls, entry: Suppression, reader: str | None) -> "SuppressionEntry":
        """Return the body of an entry for a client, or for the administrator if None.

        An entry of all clients may come from a mail of another one, which the client never learns,
        nor the words of the administrator.
        """
        is_own = reader is None or entry.client == reader
        is_bounce = entry.origin is SuppressionOrigin.BOUNCE
        fields = dict(entry) | {
            "categories": [*entry.categories],
            "reason": entry.reason if is_own or is_bounce else "",
            "source_id": entry.email_id if is_own else None,
            "created_at": entry.at,
        }
        return cls.model_construct(**{name: fields[name] for name in cls.model_fields})


class SuppressionEntries(ResponseBody):
    """Entries, a page of them or those of one address."""

    suppressions: list[SuppressionEntry]
    next: str | None = Field(None, description="`after` of the next page; absent at the last one")


class SuppressionsAnswer(ResponseBody):
    """The numbers of entries that were added or replaced, and removed."""

    added: int
    removed: int = Field(
        description="Without the entries that the administrator has made for all clients, "
        "which stay for a client"
    )


LIST_SUPPRESSIONS = Operation(
    "listSuppressions",
    "GET /v1/suppressions",
    "List suppressed addresses, the newest first",
    (Success(200, "A page of the entries", SuppressionEntries),),
    Access.ANY,
    Scope.SUPPRESS,
    query=SuppressionQuery,
)
GET_SUPPRESSION = Operation(
    "getSuppression",
    "GET /v1/suppressions/{email}",
    "Ask whether an address is suppressed",
    (Success(200, "Its entries", SuppressionEntries),),
    Access.ANY,
    Scope.SUPPRESS,
    problems=(NOT_SUPPRESSED,),
)
PUT_SUPPRESSION = Operation(
    "putSuppression",
    "PUT /v1/suppressions/{email}",
    "Suppress an address",
    (Success(200, "The entry is kept", SuppressionEntry),),
    Access.ANY,
    Scope.SUPPRESS,
    body=SuppressionChange,
    description="Replaces an entry of the same origin and list. The sender has its copy a moment "
    "later; mails that are waiting are stopped, too.",
)
DELETE_SUPPRESSION = Operation(
    "deleteSuppression",
    "DELETE /v1/suppressions/{email}",
    "Remove all entries of an address",
    (Success(204, "It is suppressed no more; the same if it never was", media_type=None),),
    Access.ANY,
    Scope.SUPPRESS,
    problems=(SUPPRESSED_FOR_ALL,),
    description="Removes the client's own entries and those of bounces. Entries for all clients "
    "that the administrator has made are removed with the administrator's token alone.",
)
POST_SUPPRESSIONS = Operation(
    "postSuppressions",
    "POST /v1/suppressions/batch",
    "Suppress many addresses, and remove the entries of others",
    (Success(200, "The changes are kept", SuppressionsAnswer),),
    Access.ANY,
    Scope.SUPPRESS,
    body=SuppressionBatch,
    description="A mistake in one address changes nothing. A client's `remove` keeps the entries "
    "that the administrator has made for all clients, without a 409. After a 503 a part may be "
    "kept; asking again does no harm.",
)


class SuppressionViews(AskingViews):
    """Asks the ledger about suppressed addresses."""

    async def list(self, request: web.Request) -> web.Response:
        """Return a page of the entries."""
        query, client = read_query(SuppressionQuery, request.query), client_of(request)
        question = ListSuppressions.model_construct(
            id=self.new_id(), client=client, **query.__dict__
        )
        page = await self.ask(question, SuppressionsListed)
        entries = [SuppressionEntry.of(each, client) for each in page.suppressions]
        return respond(200, SuppressionEntries(suppressions=entries, next=page.next))

    async def get(self, request: web.Request) -> web.Response:
        """Return the entries of an address."""
        client, found = client_of(request), await self._describe(request, read_address(request))
        if not found.suppressions:
            raise Problem(NOT_SUPPRESSED)
        entries = [SuppressionEntry.of(each, client) for each in found.suppressions]
        return respond(200, SuppressionEntries(suppressions=entries))

    async def put(self, request: web.Request) -> web.Response:
        """Add or replace an entry of an address."""
        request[REPEATABLE] = True
        email, client = read_address(request), client_of(request)
        change, _ = await self.reader.read(request, SuppressionChange)
        self._check_end("#/expires_at", change)
        changed = await self._add(change.entry(email, client))
        return respond(200, SuppressionEntry.of(changed.suppressions[0], client))

    async def delete(self, request: web.Request) -> web.Response:
        """Remove the entries of an address that the client may remove."""
        email = read_address(request)
        await self._remove(request, email)
        left = (await self._describe(request, email)).suppressions
        if client_of(request) is not None and left:
            raise Problem(SUPPRESSED_FOR_ALL)
        return web.Response(status=204)

    async def post(self, request: web.Request) -> web.Response:
        """Add entries and remove others; both are the same when they are done twice."""
        request[REPEATABLE] = True
        batch, _ = await self.reader.read(request, SuppressionBatch)
        for index, each in enumerate(batch.add):
            self._check_end(f"#/add/{index}/expires_at", each)
        entries = [each.entry(each.email, client_of(request)) for each in batch.add]
        added = await self._add(*entries) if entries else None
        removed = await self._remove(request, *batch.remove) if batch.remove else None
        return respond(
            200,
            SuppressionsAnswer(
                added=len(added.suppressions) if added else 0,
                removed=len(removed.suppressions) if removed else 0,
            ),
        )

    def _check_end(self, pointer: str, change: SuppressionChange) -> None:
        if change.expires_at is not None and change.expires_at <= self.reader.new_stamp().at:
            raise invalid(pointer, "must be in the future")

    async def _describe(self, request: web.Request, email: str) -> SuppressionsListed:
        question = DescribeSuppression(id=self.new_id(), email=email, client=client_of(request))
        return await self.ask(question, SuppressionsListed)

    async def _add(self, *entries: NewSuppression) -> SuppressionsChanged:
        # One entry of a kind for an address, the last one.
        kinds = {(each.email.lower(), each.origin, each.list_id): each for each in entries}
        question = AddSuppressions(id=self.new_id(), suppressions=tuple(kinds.values()))
        return await self.ask(question, SuppressionsChanged)

    async def _remove(self, request: web.Request, *emails: str) -> SuppressionsChanged:
        question = RemoveSuppressions(
            id=self.new_id(), emails=tuple(dict.fromkeys(emails)), client=client_of(request)
        )
        return await self.ask(question, SuppressionsChanged)


def read_address(request: web.Request) -> str:
    """Return the address of a path in its canonical form. Raises Problem."""
    try:
        # A part of a longer text is too long for an address as well.
        return address.check_address(request.match_info["email"][: MAX_MAILBOX_CHARS + 1])
    except ValueError as error:
        raise Problem(INVALID, f"The address {error}.") from None
