"""Pure: the event of a report about a mail that the ledger knows."""

import re
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
    Stage,
)
from shared.contracts.reports import MAX_REPORTER_CHARS
from shared.replies import reply as replies
from shared.replies.classify import classify

# RFC 5965 7.3, and those of older loops. The others say that a mail is no spam, or that its DKIM
# signature was wrong (RFC 6591).
COMPLAINTS = frozenset(
    {"abuse", "fraud", "virus", "other", "opt-out", "opt-out-list", "unsubscribe", "miscategorized"}
)
_REPLY = re.compile(r"(?:smtp[;:] *)?([2-5]\d\d)(?:[ -](.*))?", re.IGNORECASE | re.DOTALL)
_NO_DETAIL = ".0.0"  # a status that says no more than its class (RFC 3463 2)


def event_of(reading: Reading, mail: MailReference, now: datetime) -> Report | None:
    """Return the event of a report about a mail, None if it states nothing that counts."""
    known = {
        "at": now,
        "source": ReportSource.ARF if reading.kind is MailKind.ARF else ReportSource.DSN,
        "reporter": reading.reporter[:MAX_REPORTER_CHARS] or None,
    }
    if reading.kind is MailKind.ARF:
        if reading.feedback_type not in COMPLAINTS:
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


def _parts(block: RecipientBlock) -> tuple[int, str, str]:
    """Return the code, enhanced code and text of the reply; 0 for a reply without a code.

    The diagnostic counts first, since a server may write 5.0.0 as the status of a 550 5.1.1.
    """
    found = _REPLY.match(block.diagnostic)
    code, text = (int(found[1]), found[2] or "") if found else (0, block.diagnostic)
    reply = replies.received(Stage.RCPT, code, text)
    status = "" if block.status.endswith(_NO_DETAIL) else block.status
    if code and not status.startswith(str(code)[0]):
        status = ""
    return code, reply.enhanced or status, reply.text


def _reply(block: RecipientBlock, *, is_code: bool) -> Reply | None:
    """Return the reply that a report quotes, None if it quotes none."""
    if not block.diagnostic:
        return None
    code, enhanced, text = _parts(block)
    redacted = replies.redacted(text, of_code=is_code)
    return Reply(stage=Stage.RCPT, code=code, enhanced=enhanced or None, text=redacted)


def _class_of(block: RecipientBlock, recipient: str) -> tuple[ReplyClass, str | None]:
    """Return the class of a refusal and its rule; without the words of a server it is unknown."""
    code, enhanced, text = _parts(block)
    if not block.diagnostic or str(code).startswith("2"):
        return ReplyClass.UNDETERMINED, None
    found = classify(Stage.RCPT, code, enhanced or None, text, block.remote, recipient=recipient)
    return found.reply_class, found.rule
