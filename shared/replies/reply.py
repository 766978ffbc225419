"""The meaning of an SMTP reply, by its stage and code. The text is the reason, rarely the meaning.

A reply that never came has the code NO_REPLY.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping

from shared.contracts import Reply, ReplyClass, Stage
from shared.replies.classify import Classification, classify
from shared.retry import DELAYS, SPREAD

MAX_TEXT_CHARS = 1000  # of a reply in an event
NO_REPLY = 0
CLOSING = 421  # to any command: the server closes the connection (RFC 5321 3.8)
START_INPUT = 354
TOO_BIG = 552  # at MAIL it can only be about SIZE (RFC 1870 6.1)

# RFC 2034 4: an enhanced code stands right after the reply code or nowhere.
_ENHANCED = re.compile(r"([245])\.\d{1,3}\.\d{1,3}(?=\s|$)", re.ASCII)
# Before MAIL the server knows nothing of the mail, so a refusal there is about us.
BEFORE_MAIL = (Stage.CONNECT, Stage.EHLO, Stage.TLS, Stage.AUTH)
_DATA = Stage.DATA  # Python 3.11 takes longer to look a member up than to compare it
# The sequence of commands or the login is wrong, for any mail (RFC 5321 4.2.2, RFC 4954 6).
_NEVER_ABOUT_A_MAIL = frozenset((503, 530))
_OF_PARAMETERS = frozenset((452, 552, 555))
ENHANCED_TOO_BIG = frozenset(("5.2.3", "5.3.4"))  # RFC 3463 3.3 and 3.4
ENHANCED_NEEDS_SMTPUTF8 = "5.6.7"  # RFC 6531 3.7.4.2
# The classes that the words of a refused sender may suggest.
_MAY_BE_THE_SENDER = frozenset(
    (ReplyClass.OUR_CONFIG, ReplyClass.POLICY, ReplyClass.UNDETERMINED, ReplyClass.AUTH_SENDER)
)
_ABOUT_ALL_RECIPIENTS = frozenset((Stage.DATA, Stage.DOT))
_BEFORE_CONTENT = (Stage.MAIL, Stage.RCPT, Stage.DATA)
_NOT_THE_SESSION = (".1.", ".2.", ".7.")
_LOCAL_PART = re.compile(r"([^\s<>()\"',;:=@])[^\s<>()\"',;:=@]*@")
# A code has four to eight digits. An excerpt of the mail in a filter's reply may have blanks,
# dashes, dots or any other marks between them, invisible ones too (issue 10, S15).
MIN_CODE_DIGITS, MAX_CODE_DIGITS = 4, 8
_NUMBER = re.compile(r"\d(?:[\W_]{0,4}\d)*")
_STATUS = re.compile(r"(?:[245]\d\d[ -])?[245]\.[0-7]\.\d{1,3}", re.ASCII)  # RFC 3463 3
_ENCODED_WORD = re.compile(r"=\?\S*")  # RFC 2047: a subject, which may hold the code in base64
_TOKEN = re.compile(r"[0-9A-Za-z-]{10,}")
_TURN = re.compile(r"[A-Za-z]+|[0-9]+")
_TOO_MANY = re.compile(r"too many recipients", re.IGNORECASE)
# A server asks to wait by a verb and a time near it. A time alone means something else: "at most
# 100 mails in 1 hour".
_REQUEST = (
    r"\b(?:try(?: \w+)? again|retry(?:ing)?|resend|come back|wait|"
    r"gr[ae]ylist(?:ed|ing)?|defer(?:red|ring)?|delay(?:ed)?)\b[^\d.;]{0,40}\b"
)
_AMOUNT = re.compile(
    rf"{_REQUEST}(\d{{1,5}}) ?(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?)\b", re.IGNORECASE
)
_CLOCK = re.compile(rf"{_REQUEST}(\d{{1,2}}):(\d{{2}})(?::(\d{{2}}))?(?!\d)", re.IGNORECASE)
_UNIT_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
MIN_WAIT_SECONDS = 1.0
MAX_WAIT_SECONDS = DELAYS[-1].seconds * (1 - SPREAD)  # the longest delay queue


def received(stage: Stage, code: int, text: str) -> Reply:
    """Return a reply; `text` may have surrogates for octets that are no UTF-8."""
    if not text.isascii():
        text = text.encode(errors="surrogateescape").decode(errors="replace")
    clean = text[:MAX_TEXT_CHARS]
    found = _ENHANCED.match(clean)
    enhanced = found[0] if found and int(found[1]) == code // 100 else None
    return Reply(stage=stage, code=code, enhanced=enhanced, text=clean)


def no_reply(stage: Stage, why: str) -> Reply:
    """Return a stand-in for a reply that never came or cannot be read."""
    return Reply(stage=stage, code=NO_REPLY, text=why[:MAX_TEXT_CHARS])


def masked(text: str) -> str:
    """Return a text with masked addresses: the first letter and the domain stay."""
    return _LOCAL_PART.sub(r"\1***@", text) if "@" in text else text


def without_codes(text: str) -> str:
    """Return the reply to a mail with a one-time code, without any number that may be the code.

    Digits are those of any script, with up to four other characters between two of them. Enhanced
    codes, longer numbers in a row and the ids of queues stay.
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
    """Replace the id of a queue, hexadecimal or alphanumeric, by as many letters."""
    text = token[0].replace("-", "")
    turns = len(_TURN.findall(text))
    hexadecimal = turns > 1 and all(each in "0123456789abcdefABCDEF" for each in token[0])
    is_id = hexadecimal or turns > 3  # noqa: PLR2004 -- words with a number have at most three
    return "x" * len(token[0]) if is_id else token[0]


def redacted(text: str, *, of_code: bool) -> str:
    """Return a text that may be published and kept; `of_code` if the mail has a one-time code."""
    return without_codes(masked(text)) if of_code else masked(text)


def accepted(reply: Reply) -> bool:
    """Return whether the reply is positive: 2yz, and 354 to DATA."""
    return is_positive(reply.stage, reply.code)


def is_positive(stage: Stage, code: int) -> bool:
    """Return whether `code` is positive at `stage`."""
    if stage is _DATA:
        return code == START_INPUT
    return code // 100 == 2  # noqa: PLR2004 -- RFC 5321 4.2.1


def refused(reply: Reply) -> bool:
    """Return whether the reply is negative and the session can go on: 4yz and 5yz but 421."""
    return is_negative(reply.code)


def is_negative(code: int) -> bool:
    """Return whether `code` is negative and the session can go on."""
    return code // 100 in (4, 5) and code != CLOSING


def not_understood(reply: Reply) -> bool:
    """Return whether the server does not know the command or its argument (RFC 5321 4.2.1)."""
    return reply.code // 10 == 50  # noqa: PLR2004 -- x0z is about syntax


def permanent(reply: Reply) -> bool:
    """Return whether the same request would be refused again (RFC 5321 4.2.1).

    A problem of ours is never permanent: the mail waits until it is solved. Nor is "too many
    recipients", for which some servers still use 552 (RFC 5321 4.5.3.1.10).
    """
    return reply.code // 100 == 5 and not about_us(reply) and not too_many_recipients(reply)  # noqa: PLR2004 -- RFC 5321 4.2.1


def about_us(reply: Reply) -> bool:
    """Return whether the problem is our connection, address, login or commands, not the mail."""
    return (
        reply.stage in BEFORE_MAIL
        or reply.code in _NEVER_ABOUT_A_MAIL
        or (reply.stage is Stage.MAIL and _is_block(reply))
    )


def _is_block(reply: Reply) -> bool:
    """Return whether a permanent refusal means that we are blocked, for any sender.

    Only here words decide: nothing else shows that all mail should wait when the relay has
    accepted no sender since the start.
    """
    if reply.code // 100 != 5:  # noqa: PLR2004 -- RFC 5321 4.2.1
        return False
    found = classify(reply.stage, reply.code, reply.enhanced, reply.text)
    return found.reply_class is ReplyClass.SPAM_BLOCK


def sender_refused(reply: Reply) -> bool:
    """Return whether the server refuses the sender of a mail permanently, with any code.

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
    """Return whether the connection was closed, or closing, before this mail began."""
    return reply.code in (NO_REPLY, CLOSING) and reply.stage is Stage.MAIL


def not_opened(reply: Reply) -> bool:
    """Return whether it ended before MAIL."""
    return reply.stage in BEFORE_MAIL


def ends_at_mail(reply: Reply) -> bool:
    """Return whether it ended at MAIL."""
    return reply.stage is Stage.MAIL


def not_begun(reply: Reply) -> bool:
    """Return whether it ended at MAIL by a closed connection, or for good as far as we know."""
    ours = about_us(reply) and ends_at_mail(reply)
    return ours or closed_before(reply) or sender_refused(reply)


def not_taken(reply: Reply) -> bool:
    """Return whether MAIL was not accepted, for reasons that lie in the sender or the relay."""
    return not_begun(reply) or (ends_at_mail(reply) and is_pushback(reply))


def is_pushback(reply: Reply) -> bool:
    """Return whether a relay may ask for fewer connections or mails.

    Before MAIL the reply is about this client. At MAIL it may be about one sender (see
    `SenderRefusals`), and 452 about SIZE (RFC 1870 6.1). From RCPT on no reply counts: a mail's
    recipients or its content can cause any reply, as greylisting and full mailboxes do.
    """
    if reply.stage in BEFORE_MAIL:
        return _asks_for_less(reply) or reply.code == 452  # noqa: PLR2004 -- RFC 5321 4.2.3
    return reply.stage is Stage.MAIL and _asks_for_less(reply)


def _asks_for_less(reply: Reply) -> bool:
    rate = reply.code == 450 and (reply.enhanced or "").startswith("4.7.")  # noqa: PLR2004 -- RFC 5321 4.2.2
    return rate or reply.code in {CLOSING, 454}


def session_over(reply: Reply) -> bool:
    """Return whether a temporary refusal may mean that this connection has had too many mails.

    Servers use 452 4.4.5 and other codes for it, but none for an address, a mailbox or a policy
    (RFC 3463 3.2, 3.3, 3.8), which greylisting and rates have.
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
    """Return whether the mail may be accepted: all was sent, no reply came (RFC 1047)."""
    return reply.code == NO_REPLY and reply.stage is Stage.DOT


def classify_refusal(
    reply: Reply, recipient: str, host: str = "", *, alone: bool
) -> Classification | None:
    """Return why the server `host` refused the mail for `recipient`; None if it accepted it.

    A reply after DATA is about all recipients: unless this one is `alone`, an unknown mailbox may
    be that of another.
    """
    if accepted(reply):
        return None
    if reply.code == NO_REPLY:
        return Classification(ReplyClass.TEMPORARY, "no-reply")
    parts = (reply.stage, reply.code, reply.enhanced, reply.text)
    found = classify(*parts, host, recipient=recipient)
    if sender_refused(reply) and found.reply_class in _MAY_BE_THE_SENDER:
        return Classification(ReplyClass.AUTH_SENDER, found.rule)
    ours = alone or reply.stage not in _ABOUT_ALL_RECIPIENTS
    if found.reply_class is ReplyClass.MAILBOX_UNKNOWN and not ours:
        return Classification(ReplyClass.UNDETERMINED, found.rule)
    return found


def too_many_recipients(reply: Reply) -> bool:
    """Return whether the transaction had no room for a recipient, who is not to blame.

    X.5.3 means it with any code (RFC 3463 3.6), as 452, 552 and others do in words (RFC 5321
    4.5.3.1.10); a policy that counts recipients means more than this transaction.
    """
    kind = (reply.enhanced or "")[1:]
    return (
        reply.stage is Stage.RCPT
        and is_negative(reply.code)
        and (kind == ".5.3" or (bool(_TOO_MANY.search(reply.text)) and not kind.startswith(".7.")))
    )


def requested_wait(reply: Reply) -> float | None:
    """Return the seconds that a temporary refusal asks to wait, None without such words.

    Understood are "try again in 5 minutes", "retry after 300 seconds" and "come back in 00:05:00".
    The result is bounded by the longest delay queue.
    """
    if reply.code // 100 != 4:  # noqa: PLR2004 -- RFC 5321 4.2.1
        return None
    seconds = _seconds(reply.text)
    return min(max(seconds, MIN_WAIT_SECONDS), MAX_WAIT_SECONDS) if seconds else None


def _seconds(text: str) -> float:
    if amount := _AMOUNT.search(text):
        return int(amount[1]) * _UNIT_SECONDS[amount[2][0].lower()]
    if clock := _CLOCK.search(text):
        first, second, third = int(clock[1]), int(clock[2]), clock[3]
        # Two numbers are minutes and seconds, three begin with the hours.
        hours, minutes, rest = (0, first, second) if third is None else (first, second, int(third))
        return hours * 3600.0 + minutes * 60.0 + rest
    return 0.0


def any_of(result: Mapping[str, Reply], condition: Callable[[Reply], bool]) -> bool:
    """Return whether a condition holds for the reply to any recipient."""
    return any(map(condition, result.values()))
