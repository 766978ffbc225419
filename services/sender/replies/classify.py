"""Pure: the class of an SMTP reply, and the rule that says so.

Precision goes first. To take a block for an unknown mailbox is the worst mistake, since one listed
IP address would then be evidence against every domain; in doubt a reply is `undetermined`.
"""

import re
from typing import NamedTuple

from services.sender.replies.rules import rule
from services.sender.replies.rules.rule import ReplyContext, words_of
from shared.contracts import ReplyClass, Stage

_RULES = rule.load()  # now, for it would hold up all mails for a tenth of a second at the first no
# RFC 2034 4: an enhanced code stands right after the reply code or nowhere.
_ENHANCED = re.compile(r"([245])\.(\d{1,3}\.\d{1,3})(?=[\s:;,]|$)", re.ASCII)
_FINAL = "5"  # what is in a report without its code has ended the matter


class Classification(NamedTuple):
    """What a reply says, and by which rule: its id @ the version of its set."""

    reply_class: ReplyClass
    rule: str


def classify(  # noqa: PLR0913 -- it is all that is known of a reply
    stage: Stage | None,
    code: int,
    enhanced: str | None,
    text: str,
    host: str = "",
    *,
    recipient: str = "",
) -> Classification:
    """Return the class of a refusal by the server `host`.

    Without a `stage`, as in many logs, it is taken for an answer to RCPT. A `code` of 0 is one
    that nobody wrote down, and the reply is then a final one. `enhanced` may be absent though
    `text` begins with it; a class of it that is not the code's own makes it void (RFC 2034 4).
    """
    kind, detail = _parts_of(code, enhanced or text)
    reply = ReplyContext(stage or Stage.RCPT, str(code or kind or _FINAL), detail, host.lower())
    found = _RULES.first(reply, words_of(text, recipient))
    return Classification(found.reply_class, f"{found.id}@{_RULES.version}")


def _parts_of(code: int, text: str) -> tuple[str, str]:
    """Return the class and the rest of the enhanced code, "5" and "1.1"; empty if there is none."""
    found = _ENHANCED.match(text)
    if found is None or (code and int(found[1]) != code // 100):
        return "", ""
    return found[1], found[2]
