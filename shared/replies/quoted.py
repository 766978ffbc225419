"""Pure: the reply of a server, as a report about a mail quotes it."""

import re
from dataclasses import dataclass
from typing import Self

from shared.contracts import Reply, Stage
from shared.replies import reply as replies
from shared.replies.classify import Classification, classify

_REPLY = re.compile(r"(?:smtp[;:] *)?([2-5]\d\d)(?:[ -](.*))?", re.IGNORECASE | re.DOTALL)
_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}", re.ASCII)  # RFC 3463 2
_NO_DETAIL = ".0.0"  # a status that says no more than its class (RFC 3463 2)


@dataclass(frozen=True, slots=True)
class QuotedReply:
    """A reply to a recipient: its code, 0 if none is quoted, its enhanced code, and its text."""

    code: int
    enhanced: str | None
    text: str

    @classmethod
    def read(cls, diagnostic: str, status: str = "") -> Self:
        """Return the reply in a diagnostic, and in the status beside it (RFC 3464 2.3).

        The diagnostic counts first, since a server may write 5.0.0 as the status of a 550 5.1.1.
        """
        found = _REPLY.match(diagnostic)
        code, text = (int(found[1]), found[2] or "") if found else (0, diagnostic)
        reply = replies.received(Stage.RCPT, code, text)
        if not _STATUS.fullmatch(status) or status.endswith(_NO_DETAIL):
            status = ""
        if code and not status.startswith(str(code)[0]):
            status = ""
        return cls(code, reply.enhanced or status or None, reply.text)

    def redacted(self, *, of_code: bool) -> Reply:
        """Return the reply as it may be kept; `of_code` if the mail has a one-time code."""
        text = replies.redacted(self.text, of_code=of_code)
        return Reply(stage=Stage.RCPT, code=self.code, enhanced=self.enhanced, text=text)

    def classify(self, recipient: str, host: str = "") -> Classification | None:
        """Return the class of a refusal by the server `host`; None for a positive reply."""
        if replies.is_positive(Stage.RCPT, self.code):
            return None
        return classify(Stage.RCPT, self.code, self.enhanced, self.text, host, recipient=recipient)
