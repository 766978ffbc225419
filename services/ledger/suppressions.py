"""Pure: the entries of the suppression list, and what a change makes of them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID, uuid5

from services.ledger.mails import DAY_MILLISECONDS, milliseconds, moment
from shared.contracts import (
    Category,
    EmailBounced,
    NewSuppression,
    ReplyClass,
    ReportBounced,
    ReportComplained,
    Suppression,
    SuppressionAdded,
    SuppressionOrigin,
    SuppressionRemoved,
)
from shared.contracts.suppressions import MAX_REASON_CHARS
from shared.runtime.sealing import AddressHasher

# A removed or expired entry is remembered for so long: an outcome from before its removal does not
# bring it back, and a second bounce is known as one.
REMEMBER_ENDED_MILLISECONDS = 90 * DAY_MILLISECONDS
_EVENTS = UUID("2f0f3f63-6f2c-4c59-9a3e-5c1b6b0d7e44")  # the name space of our event ids
_BITS = {category: 1 << place for place, category in enumerate(Category)}
_EVERY = tuple(Category)
_BY_ORIGIN = {
    SuppressionOrigin.BOUNCE: _EVERY,
    SuppressionOrigin.COMPLAINT: (Category.TRANSACTIONAL, Category.BULK),
    SuppressionOrigin.UNSUBSCRIBE: (Category.BULK,),
}

EntryKey = tuple[str, str, str, str]


class StoredSuppression(NamedTuple):
    """An entry in the order of the table's columns; times are in milliseconds.

    `client` and `list_id` are empty for all. `categories` is the sum of the bits of those that are
    stopped. `at` is when it was made or removed. It is `announced` once its event is confirmed.
    The client that it is `listed_for` finds it in its list: for a bounce that of the mail.
    """

    address_key: str
    origin: str
    client: str
    list_id: str
    email: str | None
    categories: int
    reason: str
    email_id: str | None
    at: int
    expires_at: int | None
    version: int
    removed: bool = False
    announced: bool = False
    purge_at: int | None = None
    listed_for: str = ""

    @property
    def entry(self) -> EntryKey:
        """The columns that identify the entry."""
        return self[:4]

    @property
    def suppression(self) -> Suppression:
        """The entry as programs see it."""
        return Suppression(
            email=self.email,
            address_key=self.address_key,
            client=self.client or None,
            list_id=self.list_id or None,
            categories=tuple(each for each in Category if self.categories & _BITS[each]),
            origin=SuppressionOrigin(self.origin),
            reason=self.reason,
            email_id=self.email_id,
            at=moment(self.at),
            expires_at=None if self.expires_at is None else moment(self.expires_at),
        )

    @property
    def event(self) -> SuppressionAdded | SuppressionRemoved:
        """The event of this version, with the same id each time that it is published."""
        kind = SuppressionRemoved if self.removed else SuppressionAdded
        content = "\n".join((kind.keys[0], *self.entry, str(self.version)))
        return kind(
            id=str(uuid5(_EVENTS, content)),
            at=moment(self.at),
            suppression=self.suppression,
            version=self.version,
        )


class SuppressionCause(NamedTuple):
    """A refusal of an address that its server does not know, or a complaint; `at` in milliseconds.

    A complaint is about the mail of one client.
    """

    email: str
    email_id: str
    reason: str
    at: int
    client: str = ""  # of the mail; empty without one
    origin: SuppressionOrigin = SuppressionOrigin.BOUNCE

    def entry(self, address_key: str) -> EntryKey:
        """Return the key of the entry that it makes."""
        of_all = self.origin is SuppressionOrigin.BOUNCE
        return address_key, self.origin.value, "" if of_all else self.client, ""


SuppressingEvent = EmailBounced | ReportBounced | ReportComplained


def cause(event: SuppressingEvent) -> SuppressionCause | None:
    """Return the cause that suppresses an address, None for a refusal of another class."""
    if isinstance(event, ReportComplained):
        return SuppressionCause(
            email=event.recipient,
            email_id=event.email_id,
            reason=f"reported as spam: {event.feedback_type}",
            at=milliseconds(event.at),
            client=event.client or "",
            origin=SuppressionOrigin.COMPLAINT,
        )
    if event.reply_class is not ReplyClass.MAILBOX_UNKNOWN:
        return None
    reply = event.reply
    code = "" if reply is None else f": {reply.code} {reply.enhanced or ''}".rstrip()
    return SuppressionCause(
        email=event.recipient,
        email_id=event.email_id,
        reason=f"mailbox unknown{code}",
        at=milliseconds(event.at),
        client=event.client or "",
    )


def after_cause(
    known: StoredSuppression | None,
    found: SuppressionCause,
    key: str,
    counts_for: int | None,
    now: int,
) -> StoredSuppression | None:
    """Return the entry after a bounce or a complaint, None if it changes nothing.

    The first bounce counts for `counts_for` milliseconds: servers have refused all their mailboxes
    by mistake (Gmail on 2020-12-15, 550 5.1.1). One that comes after that counts for good. A bounce
    from before an entry was made or removed, or while it counts, is of a mail that was under way.
    A complaint counts for good.
    """
    if known is not None and not known.removed:
        if known.expires_at is None or found.at < known.expires_at:
            return None
        expires_at = None
    elif known is not None and found.at <= known.at:
        return None
    else:
        is_final = found.origin is SuppressionOrigin.COMPLAINT
        expires_at = None if is_final or counts_for is None else found.at + counts_for
    if expires_at is not None and expires_at <= now:
        return None
    address_key, origin, client, list_id = found.entry(key)
    return StoredSuppression(
        address_key=address_key,
        origin=origin,
        client=client,
        list_id=list_id,
        email=found.email,
        categories=bits(_BY_ORIGIN[found.origin]),
        reason=found.reason,
        email_id=found.email_id,
        at=found.at,
        expires_at=expires_at,
        version=now,
        purge_at=_purge_at(expires_at),
        listed_for=found.client,
    )


def added(
    new: NewSuppression, hasher: AddressHasher, now: int, email_id: str | None
) -> StoredSuppression:
    """Return a new entry; its origin decides which classes it stops, unless it is by hand."""
    expires_at = None if new.expires_at is None else milliseconds(new.expires_at)
    of_all = new.origin is SuppressionOrigin.BOUNCE
    return StoredSuppression(
        address_key=hasher.hash(new.email),
        origin=new.origin.value,
        client="" if of_all else new.client or "",
        list_id="" if of_all else new.list_id or "",
        email=new.email,
        categories=bits(_BY_ORIGIN.get(new.origin, new.categories)),
        reason=new.reason[:MAX_REASON_CHARS],
        email_id=email_id,
        at=now,
        expires_at=expires_at,
        version=now,
        purge_at=_purge_at(expires_at),
        listed_for=new.client or "",
    )


def removed(entry: StoredSuppression, now: int) -> StoredSuppression:
    """Return an entry after its removal."""
    return entry._replace(
        at=now,
        version=max(entry.version + 1, now),
        removed=True,
        announced=False,
        purge_at=_purge_at(now),
    )


def bits(categories: Iterable[Category]) -> int:
    """Return classes of mail as the sum of their bits."""
    return sum(_BITS[each] for each in {*categories})


def forgotten(entry: StoredSuppression, now: int) -> StoredSuppression:
    """Return an entry after its person was forgotten, without the address, reason and message.

    An opt-out still counts: by the person, or by hand on the person's behalf.
    """
    stays = entry.removed or entry.origin != SuppressionOrigin.BOUNCE
    after = entry._replace(version=now, announced=False) if stays else removed(entry, now)
    return after._replace(email=None, reason="", email_id=None)


def once(entries: Iterable[StoredSuppression]) -> Sequence[StoredSuppression]:
    """Return the last of the entries with the same key, in the order of their keys."""
    latest = {each.entry: each for each in entries}
    return [latest[key] for key in sorted(latest)]


def _purge_at(ends: int | None) -> int | None:
    return None if ends is None else ends + REMEMBER_ENDED_MILLISECONDS
