"""Pure: the event of a report about a mail that the ledger knows."""

from collections.abc import Sequence
from datetime import datetime

from services.inbound.reports.reading import Action, MailKind, Reading, RecipientBlock
from shared.contracts import (
    Category,
    MailReference,
    Reply,
    ReplyClass,
    Report,
    ReportBounced,
    ReportComplained,
    ReportDelayed,
    ReportDelivered,
    ReportSource,
)
from shared.contracts.reports import COMPLAINT_TYPES, MAX_REPORTER_CHARS
from shared.replies.quoted import QuotedReply


def event_of(reading: Reading, mail: MailReference, now: datetime) -> Report | None:
    """Return the event of a report about a mail, None if it states nothing that counts."""
    known = {
        "at": now,
        "source": ReportSource.ARF if reading.kind is MailKind.ARF else ReportSource.DSN,
        "reporter": reading.reporter[:MAX_REPORTER_CHARS] or None,
    }
    if reading.kind is MailKind.ARF:
        if reading.feedback_type not in COMPLAINT_TYPES:
            return None
        return ReportComplained.about(mail, **known, feedback_type=reading.feedback_type)
    block = _about(reading.blocks, mail.recipient)
    if block is None:
        return None
    reply = _reply(block, is_code=mail.category is Category.OTP)
    if block.action is Action.FAILED:
        reply_class, rule = _class_of(block, mail.recipient)
        return ReportBounced.about(mail, **known, reply=reply, reply_class=reply_class, rule=rule)
    kind = ReportDelayed if block.action is Action.DELAYED else ReportDelivered
    return kind.about(mail, **known, reply=reply)


def _about(blocks: Sequence[RecipientBlock], recipient: str) -> RecipientBlock | None:
    """Return the block of a recipient.

    A forwarded mail has other addresses. Its return path says that the report is about this
    recipient: all blocks are then, and they count if they agree.
    """
    named = [
        each for each in blocks if recipient.lower() in {name.lower() for name in each.addresses}
    ]
    found = named or blocks
    return found[0] if len({each.action for each in found}) == 1 else None


def _reply(block: RecipientBlock, *, is_code: bool) -> Reply | None:
    """Return the reply that a report quotes, None if it quotes none."""
    if not block.diagnostic:
        return None
    return QuotedReply.read(block.diagnostic, block.status).redacted(of_code=is_code)


def _class_of(block: RecipientBlock, recipient: str) -> tuple[ReplyClass, str | None]:
    """Return the class of a refusal and its rule; without the words of a server it is unknown."""
    quoted = QuotedReply.read(block.diagnostic, block.status)
    found = quoted.classify(recipient, block.remote) if block.diagnostic else None
    return found or (ReplyClass.UNDETERMINED, None)
