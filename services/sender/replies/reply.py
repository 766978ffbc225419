"""Pure: what an SMTP reply means by its stage and code. Its text tells why, rarely what to do.

A reply that never came has the code 0.
"""

import re
import unicodedata

from services.sender.replies.classify import Classification, classify
from shared.contracts import Reply, ReplyClass, Stage
from shared.retry import DELAYS, SPREAD

MAX_TEXT_CHARS = 1000  # of a reply that is passed on
NO_REPLY = 0
CLOSING = 421  # to any command: the server closes the connection (RFC 5321 3.8)
START_INPUT = 354
TOO_BIG = 552  # at MAIL it can be about nothing else than SIZE (RFC 1870 6.1)

# RFC 2034 4: an enhanced code stands right after the reply code or nowhere.
_ENHANCED = re.compile(r"([245])\.\d{1,3}\.\d{1,3}(?=\s|$)", re.ASCII)
# Before MAIL nothing has been said of the mail, so a refusal there is about us.
BEFORE_MAIL = (Stage.CONNECT, Stage.EHLO, Stage.TLS, Stage.AUTH)
_DATA = Stage.DATA  # Python 3.11 takes longer to look a member up than to compare it
# Our dialogue or our login is wrong, whatever mail it is (RFC 5321 4.2.2, RFC 4954 6).
_NEVER_ABOUT_A_MAIL = frozenset((503, 530))
_OF_PARAMETERS = frozenset((452, 552, 555))
ENHANCED_TOO_BIG = frozenset(("5.2.3", "5.3.4"))  # RFC 3463 3.3 and 3.4
ENHANCED_NEEDS_SMTPUTF8 = "5.6.7"  # RFC 6531 3.7.4.2
# The classes that the words of a refused sender may be taken for.
_MAY_BE_THE_SENDER = frozenset(
    (ReplyClass.OUR_CONFIG, ReplyClass.POLICY, ReplyClass.UNDETERMINED, ReplyClass.AUTH_SENDER)
)
_ABOUT_ALL_RECIPIENTS = frozenset((Stage.DATA, Stage.DOT))
_BEFORE_CONTENT = (Stage.MAIL, Stage.RCPT, Stage.DATA)
_NOT_THE_SESSION = (".1.", ".2.", ".7.")
_LOCAL_PART = re.compile(r"([^\s<>()\"',;:=@])[^\s<>()\"',;:=@]*@")
# A code has four to eight digits. An excerpt of the mail, as filters show it, may have blanks,
# dashes, dots or any other marks between them, also such as nobody sees (issue 10, S15).
MIN_CODE_DIGITS, MAX_CODE_DIGITS = 4, 8
_NUMBER = re.compile(r"\d(?:[\W_]{0,4}\d)*")
_STATUS = re.compile(r"(?:[245]\d\d[ -])?[245]\.[0-7]\.\d{1,3}", re.ASCII)  # RFC 3463 3
_ENCODED_WORD = re.compile(r"=\?\S*")  # RFC 2047: a subject, which may hold the code in base64
_TOKEN = re.compile(r"[0-9A-Za-z-]{10,}")
_TURN = re.compile(r"[A-Za-z]+|[0-9]+")
_TOO_MANY = re.compile(r"too many recipients", re.IGNORECASE)


def received(stage: Stage, code: int, text: str) -> Reply:
    """Return a reply as it came; text that is no UTF-8 has been decoded with surrogates."""
    if not text.isascii():
        text = text.encode(errors="surrogateescape").decode(errors="replace")
    clean = text[:MAX_TEXT_CHARS]
    found = _ENHANCED.match(clean)
    enhanced = found[0] if found and int(found[1]) == code // 100 else None
    return Reply(stage=stage, code=code, enhanced=enhanced, text=clean)


def no_reply(stage: Stage, why: str) -> Reply:
    """Return the stand-in for a reply that never came or cannot be read."""
    return Reply(stage=stage, code=NO_REPLY, text=why[:MAX_TEXT_CHARS])


def masked(text: str) -> str:
    """Return a text in which only the first letter and the domain of addresses are left."""
    return _LOCAL_PART.sub(r"\1***@", text) if "@" in text else text


def without_codes(text: str) -> str:
    """Return a reply to a mail with a code, without any number that may be the code.

    Digits are those of any script, in a row or with up to four other marks between two of them.
    Enhanced codes, longer numbers in a row and the ids of queues stay.
    """
    text = _ENCODED_WORD.sub("***", text)
    plain = text if text.isascii() else "".join(map(_with_ascii_digit, text))
    plain = _TOKEN.sub(_without_id, plain)
    leading = _ENHANCED.match(text)
    kept, end = list[str](), 0
    for found in _NUMBER.finditer(plain, leading.end() if leading else 0):
        cut_off = found.end() == len(text) >= MAX_TEXT_CHARS
        status = _STATUS.fullmatch(text[found.start() : found.end()])
        if cut_off or (_may_be_code(found[0]) and not status):
            kept += text[end : found.start()], "***"
            end = found.end()
    return "".join(kept) + text[end:]


def _may_be_code(number: str) -> bool:
    digits = sum(map(str.isdigit, number))
    longer = digits > MAX_CODE_DIGITS and number.isdigit()
    return digits >= MIN_CODE_DIGITS and not longer


def _with_ascii_digit(character: str) -> str:
    return str(unicodedata.digit(character, character))


def _without_id(token: re.Match[str]) -> str:
    """Return as many letters in place of the id of a queue: hexadecimal, or a mix of both."""
    text = token[0].replace("-", "")
    turns = len(_TURN.findall(text))
    hexadecimal = turns > 1 and all(each in "0123456789abcdefABCDEF" for each in token[0])
    is_id = hexadecimal or turns > 3  # noqa: PLR2004 -- words with a number have at most three
    return "x" * len(token[0]) if is_id else token[0]


def redacted(text: str, *, of_code: bool) -> str:
    """Return a text as it may be published and kept; `of_code` if the mail has a code."""
    return without_codes(masked(text)) if of_code else masked(text)


def accepted(reply: Reply) -> bool:
    """Return whether the server said yes: 2yz, and 354 to DATA."""
    return is_positive(reply.stage, reply.code)


def is_positive(stage: Stage, code: int) -> bool:
    """Return whether `code` is a yes at `stage`."""
    if stage is _DATA:
        return code == START_INPUT
    return code // 100 == 2  # noqa: PLR2004 -- RFC 5321 4.2.1


def refused(reply: Reply) -> bool:
    """Return whether the server said no and the conversation can go on: 4yz and 5yz but 421."""
    return is_negative(reply.code)


def is_negative(code: int) -> bool:
    """Return whether `code` is a no after which the conversation can go on."""
    return code // 100 in (4, 5) and code != CLOSING


def not_understood(reply: Reply) -> bool:
    """Return whether the server does not know the command, or not its argument (RFC 5321 4.2.1)."""
    return reply.code // 10 == 50  # noqa: PLR2004 -- x0z is about syntax


def permanent(reply: Reply) -> bool:
    """Return whether the same request would be refused again (RFC 5321 4.2.1).

    Trouble with us is never permanent: the mail waits until somebody has put it right. Nor is
    "too many recipients", for which some servers still use 552 (RFC 5321 4.5.3.1.10).
    """
    return reply.code // 100 == 5 and not about_us(reply) and not too_many_recipients(reply)  # noqa: PLR2004 -- RFC 5321 4.2.1


def about_us(reply: Reply) -> bool:
    """Return whether the trouble is our connection, address, login or dialogue, not the mail."""
    return (
        reply.stage in BEFORE_MAIL
        or reply.code in _NEVER_ABOUT_A_MAIL
        or (reply.stage is Stage.MAIL and _is_block(reply))
    )


def _is_block(reply: Reply) -> bool:
    """Return whether a refusal for good says that we are blocked, whatever the sender.

    Only here words decide: nothing else shows that all mail should wait, when the relay has
    accepted no sender since we started.
    """
    if reply.code // 100 != 5:  # noqa: PLR2004 -- RFC 5321 4.2.1
        return False
    found = classify(reply.stage, reply.code, reply.enhanced, reply.text)
    return found.reply_class is ReplyClass.SPAM_BLOCK


def sender_refused(reply: Reply) -> bool:
    """Return whether the server refuses the sender of a mail for good, whatever the code.

    A refusal of one sender concerns that mail alone (RFC 5321 4.2.1).
    """
    return reply.stage is Stage.MAIL and permanent(reply) and not parameters_refused(reply)


def parameters_refused(reply: Reply) -> bool:
    """Return whether a refusal at MAIL is about its parameters: the size, or SMTPUTF8.

    Sources: RFC 1870 6.1, RFC 5321 4.2.2 (555), RFC 6531 3.7.4.2.
    """
    return reply.stage is Stage.MAIL and (
        reply.code in _OF_PARAMETERS
        or reply.enhanced in ENHANCED_TOO_BIG
        or reply.enhanced == ENHANCED_NEEDS_SMTPUTF8
    )


def closed_before(reply: Reply) -> bool:
    """Return whether the connection was closed, or about to be, before this mail's turn came."""
    return reply.code in (NO_REPLY, CLOSING) and reply.stage is Stage.MAIL


def session_over(reply: Reply) -> bool:
    """Return whether a temporary refusal may mean the connection, on which too much was sent.

    Servers say it with 452 4.4.5 and with other codes; not with those for an address, a mailbox
    or a policy (RFC 3463 3.2, 3.3, 3.8), as greylisting and rates have them.
    """
    kind = (reply.enhanced or "")[1:]
    return (
        reply.code // 100 == 4  # noqa: PLR2004 -- RFC 5321 4.2.1
        and reply.code != CLOSING
        and reply.stage in _BEFORE_CONTENT
        and not kind.startswith(_NOT_THE_SESSION)
        and not too_many_recipients(reply)
    )


def lost_after_dot(reply: Reply) -> bool:
    """Return whether the mail may have been accepted: all was sent, no reply came (RFC 1047)."""
    return reply.code == NO_REPLY and reply.stage is Stage.DOT


def class_of(reply: Reply, recipient: str, host: str = "", *, alone: bool) -> Classification | None:
    """Return why the server `host` said no to the mail for `recipient`; None if it said yes.

    What it says after DATA it says of all recipients: unless this one is `alone`, nobody knows
    whose mailbox is unknown.
    """
    if accepted(reply):
        return None
    if reply.code == NO_REPLY:
        return Classification(ReplyClass.TEMPORARY, "no-reply")
    said = (reply.stage, reply.code, reply.enhanced, reply.text)
    found = classify(*said, host, recipient=recipient)
    if sender_refused(reply) and found.reply_class in _MAY_BE_THE_SENDER:
        return Classification(ReplyClass.AUTH_SENDER, found.rule)
    ours = alone or reply.stage not in _ABOUT_ALL_RECIPIENTS
    if found.reply_class is ReplyClass.MAILBOX_UNKNOWN and not ours:
        return Classification(ReplyClass.UNDETERMINED, found.rule)
    return found


def too_many_recipients(reply: Reply) -> bool:
    """Return whether the transaction had no room for a recipient, with whom nothing is wrong.

    X.5.3 says so with any code (RFC 3463 3.6), as 452, 552 and others do in words (RFC 5321
    4.5.3.1.10); a policy that counts recipients means more than this transaction.
    """
    kind = (reply.enhanced or "")[1:]
    return (
        reply.stage is Stage.RCPT
        and is_negative(reply.code)
        and (kind == ".5.3" or (bool(_TOO_MANY.search(reply.text)) and not kind.startswith(".7.")))
    )


SHORTEST_SECONDS = 1.0
LONGEST_SECONDS = DELAYS[-1].seconds * (1 - SPREAD)  # the longest delay queue

_TRANSIENT = 4  # the first digit of a reply that may be asked again (RFC 5321 4.2.1)
# A wish and a time not far behind it. A time alone is none: "at most 100 mails in 1 hour".
_WISH = (
    r"\b(?:try(?: \w+)? again|retry(?:ing)?|resend|come back|wait|"
    r"gr[ae]ylist(?:ed|ing)?|defer(?:red|ring)?|delay(?:ed)?)\b[^\d.;]{0,40}\b"
)
_AMOUNT = re.compile(
    rf"{_WISH}(\d{{1,5}}) ?(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?)\b", re.IGNORECASE
)
_CLOCK = re.compile(rf"{_WISH}(\d{{1,2}}):(\d{{2}})(?::(\d{{2}}))?(?!\d)", re.IGNORECASE)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def wait_asked(reply: Reply) -> float | None:
    """Return the seconds that a temporary refusal asks for, None if it asks for none.

    Bounded by what the delay ladder can keep; the words "try again in 5 minutes", "retry after
    300 seconds" and "come back in 00:05:00" are understood.
    """
    if reply.code // 100 != _TRANSIENT:
        return None
    seconds = _seconds(reply.text)
    if not seconds:
        return None
    return min(max(seconds, SHORTEST_SECONDS), LONGEST_SECONDS)


def _seconds(text: str) -> float | None:
    if amount := _AMOUNT.search(text):
        return int(amount[1]) * _UNITS[amount[2][0].lower()]
    if clock := _CLOCK.search(text):
        first, second, third = int(clock[1]), int(clock[2]), clock[3]
        # Two numbers are minutes and seconds, three begin with the hours.
        hours, minutes, rest = (0, first, second) if third is None else (first, second, int(third))
        return hours * 3600.0 + minutes * 60.0 + rest
    return None
