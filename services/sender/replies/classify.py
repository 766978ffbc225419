"""The class of an SMTP reply, and the rule that determines it.

Precision comes first. A block that counts as an unknown mailbox is the worst mistake, since one
listed IP address would then be evidence against every domain. In doubt a reply is `undetermined`.
"""

import re
from typing import NamedTuple

from services.sender.replies.rules import rule
from services.sender.replies.rules.rule import ReplyContext, words_of
from shared.contracts import ReplyClass, Stage

_RULES = rule.load()  # now: at the first refusal it would block all mails for 0.1 s
# RFC 2034 4: an enhanced code stands right after the reply code or nowhere.
_ENHANCED = re.compile(r"([245])\.(\d{1,3}\.\d{1,3})(?=[\s:;,]|$)", re.ASCII)
_PERMANENT = "5"  # a reply in a report without its code was final


class Classification(NamedTuple):
    """The class of a reply and its rule: the rule's id @ the version of the set."""

    reply_class: ReplyClass
    rule: str


def classify(  # noqa: PLR0913 -- a reply has as many properties
    stage: Stage | None,
    code: int,
    enhanced: str | None,
    text: str,
    host: str = "",
    *,
    recipient: str = "",
) -> Classification:
    """Return the class of a refusal by the server `host`.

    Without a `stage`, as in many logs, it is a reply to RCPT. A `code` of 0 is unknown, and the
    reply is then permanent. `enhanced` may be absent though `text` begins with it. An enhanced
    code of another class than the code's is ignored (RFC 2034 4).
    """
    kind, detail = _parts_of(code, enhanced or text)
    reply = ReplyContext(stage or Stage.RCPT, str(code or kind or _PERMANENT), detail, host.lower())
    found = _RULES.first(reply, words_of(text, recipient))
    return Classification(found.reply_class, f"{found.id}@{_RULES.version}")


def _parts_of(code: int, text: str) -> tuple[str, str]:
    """Return the class and the rest of the enhanced code, "5" and "1.1"; empty if there is none."""
    found = _ENHANCED.match(text)
    if found is None or (code and int(found[1]) != code // 100):
        return "", ""
    return found[1], found[2]
