"""Pure: whether the next relay is asked for a mail, and which answer counts if none takes it."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.sender.outcome import Reason, Replies, Unsendable
from services.sender.replies import reply as replies
from services.sender.smtp.circuit_breaker import Postponed
from shared.contracts import Reply, Stage

# The worth of an answer to the sender of the mail. The further a relay went, the more it tells.
_LACKS = {Reason.SMTPUTF8_NOT_OFFERED: 0, Reason.TOO_BIG: 1}
_REFUSED, _POSTPONED, _TEMPORARY = 2, 3, 4


@dataclass(frozen=True, slots=True)
class Asked:
    """The result of a mail at one relay, which may be `suspected` of refusing more than its sender.

    It is `final` if the same relay would say the same again.
    """

    relay: str
    result: Replies | Unsendable | Postponed
    suspected: bool = False

    @property
    def final(self) -> bool:
        """Whether the relay need not be asked again."""
        return self.worth <= _REFUSED

    @property
    def worth(self) -> int:
        """Its rank among results: the reasons of final refusals first, then those with hope."""
        match self.result:
            case Postponed():
                return _POSTPONED
            case Unsendable(reason):
                return _LACKS.get(reason, _REFUSED)
        final = all(map(replies.permanent, self.result.values()))
        return _REFUSED if final and not self.suspected else _TEMPORARY


def says_nothing_of_others(result: Replies | Unsendable | Postponed) -> bool:
    """Return whether another relay may take the mail.

    Another relay may have an extension that this one lacks, and take a sender that this one refuses
    (RFC 6531 3.2).
    """
    match result:
        case Postponed():
            return True
        case Unsendable(reason):
            return reason in _LACKS
    return any(map(_is_before_rcpt, result.values()))


def best(asked: Iterable[Asked]) -> Asked:
    """Choose the answer that counts: while one relay may still take the mail it is not final."""
    return max(asked, key=lambda each: each.worth)


def _is_before_rcpt(reply: Reply) -> bool:
    return reply.stage in replies.BEFORE_MAIL or reply.stage is Stage.MAIL
