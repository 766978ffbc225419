"""Pure: an event as endpoints get it, and the endpoints that want it."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from itertools import chain, product
from typing import Generic, NamedTuple, Protocol, TypeVar

import orjson

from shared import contracts
from shared.contracts import Category, Event, MailReceived, SuppressionAdded, SuppressionRemoved
from shared.contracts.fields import Tag
from shared.runtime.sealing import fold

ADMINISTRATOR = ""  # the client of the administrator's endpoints
TEST_TYPE = "webhook.test"
_ANY_TAG = ""  # no tag has an empty name


class Message(NamedTuple):
    """An event, once for all endpoints: the content, and the facts by which it is chosen."""

    message_id: str  # the header webhook-id, for ever
    type: str
    at: datetime
    client: str | None  # None for all clients
    address: str  # in lower case; empty for none
    category: Category | None
    tags: Collection[Tag]
    body: bytes  # as it is sent
    trace: str | None = None  # the traceparent that its requests continue


class Wanted(Protocol):
    """The wishes of an endpoint."""

    @property
    def client(self) -> str:
        """The client, empty for the administrator."""

    @property
    def events(self) -> Collection[str]:
        """Types of events, or nouns with a star."""

    @property
    def categories(self) -> Collection[str]:
        """Classes of mails; all if empty."""

    @property
    def tags(self) -> Collection[str]:
        """Tags, `name` or `name:value`; any mail if empty."""


Endpoint = TypeVar("Endpoint", bound=Wanted)


def message_of(event: Event, trace: str | None = None) -> Message:
    """Return an event as endpoints get it. A copy of the event is the same message."""
    type_ = event.routing_key
    client, address = _owner(event), _address(event)
    return Message(
        message_id=message_id(type_, event.id),
        type=type_,
        at=event.at,
        client=client,
        address=fold(address or ""),
        category=getattr(event, "category", None),
        tags=getattr(event, "tags", ()),
        body=body(type_, event.at, contracts.encode(event)),
        trace=trace,
    )


def message_id(type_: str, event_id: str) -> str:
    """Return the webhook-id of an event: without a dot, which separates what is signed."""
    return f"msg_{sha256(f'{type_} {event_id}'.encode()).hexdigest()[:32]}"


def body(type_: str, at: datetime, data: bytes) -> bytes:
    """Return the body of a request; `data` is JSON."""
    return orjson.dumps(
        {"type": type_, "timestamp": at, "data": orjson.Fragment(data)}, option=orjson.OPT_UTC_Z
    )


def wants(endpoint: Wanted, message: Message) -> bool:
    """Return whether an endpoint gets a message.

    Its classes and tags limit events of mails, which have some; others have neither.
    """
    if endpoint.client not in (
        ADMINISTRATOR,
        endpoint.client if message.client is None else message.client,
    ):
        return False
    if not _names(message) & {*endpoint.events}:
        return False
    if message.category is None:
        return True
    if endpoint.categories and message.category not in endpoint.categories:
        return False
    return not endpoint.tags or not _labels(message).isdisjoint(endpoint.tags)


class Audience(Generic[Endpoint]):
    """Endpoints, found by the types of events and the tags that they want.

    With a thousand of them, to ask each of them about each event takes all of a processor.
    """

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self._by_event = defaultdict[str, list[Endpoint]](list)
        self._by_tag = defaultdict[tuple[str, str], list[Endpoint]](list)
        for each in endpoints:
            for name in each.events:
                self._by_event[name].append(each)
                for label in each.tags or (_ANY_TAG,):
                    self._by_tag[name, label].append(each)

    def of(self, message: Message) -> Sequence[Endpoint]:
        """Return the endpoints that get a message, each once."""
        names = _names(message)
        if message.category is None:
            found = [self._by_event.get(name, ()) for name in names]
        else:
            labels = {_ANY_TAG, *_labels(message)}
            found = [self._by_tag.get(key, ()) for key in product(names, labels)]
        once = {id(each): each for each in chain.from_iterable(found)}
        return [each for each in once.values() if wants(each, message)]


def _names(message: Message) -> set[str]:
    """Return the names by which an endpoint may want a message: its type, and all of its noun."""
    return {message.type, f"{message.type.partition('.')[0]}.*"}


def _labels(message: Message) -> set[str]:
    return {label for tag in message.tags for label in (tag.name, f"{tag.name}:{tag.value}")}


def _owner(event: Event) -> str | None:
    """Return the client that an event is about, the administrator's for none, None for all."""
    if isinstance(event, SuppressionAdded | SuppressionRemoved):
        return event.suppression.client or ADMINISTRATOR
    if "client" not in type(event).model_fields:
        return None
    return getattr(event, "client") or ADMINISTRATOR  # noqa: B009 -- not every event has it


def _address(event: Event) -> str | None:
    if isinstance(event, SuppressionAdded | SuppressionRemoved):
        return event.suppression.email
    if isinstance(event, MailReceived):
        return event.recipient or event.sender
    return getattr(event, "recipient", None) or getattr(event, "email", None)
