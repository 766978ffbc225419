"""Pure: the life of a message as text for a person."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from shared.contracts import EmailRecord, HistoryEntry


def life(email: EmailRecord, history: Sequence[HistoryEntry]) -> str:
    """Format the facts of a mail, and the outcomes of each recipient."""
    return "\n".join([*_facts(email), *_recipients(email, history)])


def _facts(email: EmailRecord) -> Iterator[str]:
    facts = {
        "id": email.email_id,
        "client": email.client,
        "category": email.category,
        "from": email.from_,
        "subject": email.subject,
        "list": email.list_id,
        "tags": ", ".join(f"{name}:{value}" for name, value in email.tags.items()),
        "metadata": ", ".join(f"{name}={value}" for name, value in email.metadata.items()),
        "size": f"{email.size_bytes} bytes",
        "message id": email.message_id,
        "accepted": _time(email.accepted_at),
        "expires": email.expires_at and _time(email.expires_at),
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        if value:
            yield f"{name:{width}}  {value}"


def _recipients(email: EmailRecord, history: Sequence[HistoryEntry]) -> Iterator[str]:
    for each in email.recipients:
        yield f"\n{each.recipient}: {each.status}"
        for entry in history:
            if entry.recipient == each.recipient:
                yield f"  {_time(entry.at)}  attempt {entry.attempt}  {_outcome(entry)}"


def _outcome(entry: HistoryEntry) -> str:
    again = f"again in {entry.retry_after:g} s" if entry.retry_after is not None else None
    parts = (entry.status, _reply(entry), entry.reply_class, entry.reason, again)
    return "; ".join(str(part) for part in parts if part)


def _reply(entry: HistoryEntry) -> str | None:
    reply = entry.reply
    if reply is None:
        return None
    return " ".join(filter(None, (str(reply.code), reply.enhanced, reply.text)))


def _time(at: datetime) -> str:
    return at.isoformat(" ", "seconds")
