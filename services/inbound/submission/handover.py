"""Pure: the command of a mail that a program hands over, or why it is refused."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Any

from pydantic import ValidationError

from services.inbound.envelope import Refused
from shared.contracts import AuthenticatedClient, Category, SendEmail, address, mime, mistakes
from shared.contracts.clients import allows_sender
from shared.contracts.mime import HeaderField
from shared.contracts.schedule import MAX_SCHEDULE

PREFIX = "x-postrider-"
_OPTIONS: Mapping[str, str] = {
    "x-postrider-category": "category",
    "x-postrider-list-id": "list_id",
    "x-postrider-tags": "tags",
    "x-postrider-metadata": "metadata",
    "x-postrider-scheduled-at": "scheduled_at",
}
_FIELDS = {option: name.title() for name, option in _OPTIONS.items()}
_OPTION = re.compile(rf"(^|; )({'|'.join(_FIELDS)})\b")


@dataclass(frozen=True, slots=True)
class Handover:
    """A mail as it was handed over: by a client, in an envelope; without a sender that is empty."""

    client: AuthenticatedClient
    sender: str
    recipients: tuple[str, ...]
    content: bytes


@dataclass(frozen=True, slots=True)
class AcceptanceRules:
    """How mails are accepted: `category` is the class of a mail that names none."""

    category: Category
    now: Callable[[], datetime]
    new_id: Callable[[], str]

    def command(self, mail: Handover) -> SendEmail:
        """Return the command that sends a mail as it is, but for what only Postrider reads.

        A mail of the same client, Message-ID and recipients has the same id, so that it is sent
        once when it is handed over twice. Raises Refused.
        """
        try:
            fields = mime.read_header(mime.split(mime.check_octets(mail.content))[0])
            from_ = _checked_from(fields, mail.client)
            given_id = mime.find(fields, "message-id")
            message_id = given_id and mime.read_message_id(given_id)
            options = _options(fields)
        except ValueError as error:
            raise Refused(f"554 5.6.0 The mail {error}") from None
        if sum(field.name == "received" for field in fields) > mime.MAX_HOPS:
            raise Refused("554 5.4.6 The mail has gone through too many servers: a loop")
        id_ = _mail_id(mail, message_id) if message_id else self.new_id()
        message_id = message_id or f"<{id_}@{address.domain_of(address.bare_address(from_))}>"
        own = {
            "id": id_,
            "client": mail.client.id,
            "created_at": self.now(),
            "from": from_,
            "to": mail.recipients,
            "subject": mime.read_subject(_subject(fields)),
            "message_id": message_id,
            "envelope_from": mail.sender,
            "mime": base64.b64encode(self._content(mail.content, fields, message_id)).decode(),
        }
        return self._checked({"category": self.category} | options | own)

    def _content(self, content: bytes, fields: Sequence[HeaderField], message_id: str) -> bytes:
        """Return the mail with Date and Message-ID (RFC 6409 8.2, 8.3), without what is private."""
        names = {field.name for field in fields}
        date = format_datetime(self.now())
        added = "" if "date" in names else f"Date: {date}\r\n"
        added += "" if "message-id" in names else f"Message-ID: {message_id}\r\n"
        kept = (each for each in fields if not _is_private(each.name))
        return added.encode() + mime.join(kept) + mime.split(content)[1]

    def _checked(self, values: Mapping[str, Any]) -> SendEmail:
        try:
            command = SendEmail.model_validate(values)
        except ValidationError as error:
            raise Refused(f"554 5.6.0 The mail is refused: {_shown(error)}") from None
        at = command.scheduled_at
        if at is not None and at - self.now() > MAX_SCHEDULE:
            days = MAX_SCHEDULE.days
            raise Refused(f"554 5.6.0 X-Postrider-Scheduled-At must be at most {days} days ahead")
        return command


def check_sender(client: AuthenticatedClient, mailbox: str) -> None:
    """Raise Refused for a sender that a client must not use; an empty one is no one's."""
    if mailbox and not allows_sender(client.senders, mailbox):
        raise Refused("550 5.7.1 This client must not send from this address")


def _checked_from(fields: Sequence[HeaderField], client: AuthenticatedClient) -> str:
    """Return the mailbox of From. Raises ValueError, and Refused for From and Sender alike."""
    value = mime.find(fields, "from")
    if value is None:
        raise ValueError("must have a From field")
    try:
        from_ = mime.read_mailbox(value)
        sender = mime.find(fields, "sender")
        others = [mime.read_mailbox(sender)] if sender else []
    except ValueError as error:
        raise ValueError(f"must have a right From: it {error}") from None
    for mailbox in (from_, *others):
        check_sender(client, mailbox)
    return from_


def _subject(fields: Sequence[HeaderField]) -> str:
    return next((field.text for field in fields if field.name == "subject"), "")


def _is_private(name: str) -> bool:
    return name in mime.BCC or name.startswith(PREFIX)


def _options(fields: Sequence[HeaderField]) -> dict[str, Any]:
    """Return the fields of the command that X-Postrider-* headers set. Raises ValueError."""
    options: dict[str, Any] = {}
    for field in fields:
        if not field.name.startswith(PREFIX):
            continue
        if field.name not in _OPTIONS:
            raise ValueError(f"must not have {field.name.title()}, which no version knows")
        text = mime.read_subject(mime.find(fields, field.name) or "")
        option = _OPTIONS[field.name]
        options[option] = _READERS[option](text) if option in _READERS else text
    return options


def _tags(text: str) -> list[dict[str, str]]:
    """Read `campaign=spring, kind=news`."""
    pairs = [each.partition("=") for each in text.split(",") if each.strip()]
    return [{"name": name.strip(), "value": value.strip()} for name, _, value in pairs]


def _metadata(text: str) -> object:
    """Read `{"order": "4711"}`, each name once. Raises ValueError."""
    try:
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise ValueError("must have X-Postrider-Metadata as a JSON object") from None


def _once(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a name stands twice")
    return dict(pairs)


def _time(text: str) -> datetime:
    """Read `2026-12-24T18:00:00+01:00`. Raises ValueError.

    A date such as 20261224 is no number of seconds: the mail would be sent at once.
    """
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError(
            "must have X-Postrider-Scheduled-At as a date and time with its offset from UTC, such "
            "as 2026-12-24T18:00:00+01:00"
        )
    return at


_READERS: Mapping[str, Callable[[str], object]] = {
    "tags": _tags,
    "metadata": _metadata,
    "scheduled_at": _time,
}


def _mail_id(mail: Handover, message_id: str) -> str:
    """Return the id that the same mail for the same recipients always has."""
    parts = (mail.client.id, message_id, *sorted(mail.recipients))
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:32]


def _shown(error: ValidationError) -> str:
    """Return the mistakes in a line, with the names of the header fields that they are in."""
    text = mistakes(error).removeprefix("body: ")
    return " ".join(_OPTION.sub(lambda found: found[1] + _FIELDS[found[2]], text).split())[:400]
