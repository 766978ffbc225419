"""Reports with the reading that each must have: made from the RFCs and what servers write."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from services.inbound.reports.reading import Action, MailKind
from shared.contracts import ReplyClass
from tests.inbound.reports.mails import ANN, arf, dsn, multipart, recipient_block, returned

C = ReplyClass


class Example(NamedTuple):
    """A mail, and what it means: for a failure also the class of its refusal."""

    name: str
    content: bytes
    kind: MailKind
    action: Action | None = None
    reply_class: ReplyClass | None = None
    feedback_type: str = ""
    recipient: str = ANN


# The words of servers, each with its class; the status is that of the field.
REPLIES: tuple[tuple[str, str, ReplyClass], ...] = (
    (
        "5.1.1",
        "550 5.1.1 <ann@example.org>: Recipient address rejected: User unknown",
        C.MAILBOX_UNKNOWN,
    ),
    (
        "5.0.0",
        "550 5.1.1 The email account that you tried to reach does not exist.",
        C.MAILBOX_UNKNOWN,
    ),
    (
        "5.1.10",
        "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
        C.MAILBOX_UNKNOWN,
    ),
    ("5.7.1", "550 5.7.1 Message rejected due to local policy", C.POLICY),
    (
        "5.7.26",
        "550 5.7.26 This mail has been blocked because the sender is unauthenticated.",
        C.AUTH_SENDER,
    ),
    ("5.2.2", "552 5.2.2 The email account that you tried to reach is over quota", C.MAILBOX_FULL),
    (
        "5.2.1",
        "550 5.2.1 The email account that you tried to reach is disabled.",
        C.MAILBOX_DISABLED,
    ),
    ("5.3.4", "552 5.3.4 Message size exceeds fixed limit", C.TOO_BIG),
    (
        "5.7.1",
        "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org",
        C.SPAM_BLOCK,
    ),
    ("5.7.1", "550 5.7.1 <ann@example.org>: Relay access denied", C.RELAY_DENIED),
)
SERVERS: dict[str, dict[str, str | None]] = {
    "postfix": {"remote_mta": "dns; mx.example.org"},
    "exim": {"remote_mta": "dns; mx.example.org", "final_recipient": f"rfc822;{ANN}"},
    "sendmail": {"remote_mta": "DNS; mx.example.org", "final_recipient": f"RFC822; {ANN.upper()}"},
    "exchange": {"final_recipient": f"rfc822;{ANN}", "remote_mta": "dns;mail.example.org"},
    "opensmtpd": {"remote_mta": None, "final_recipient": f"rfc822; <{ANN}>"},
    "haraka": {"original_recipient": f"rfc822;{ANN}", "remote_mta": None},
    "forwarded": {"original_recipient": f"rfc822;{ANN}", "final_recipient": "rfc822;x@y.example"},
    "folded": {"remote_mta": "dns; mx.example.org"},
    "commented": {"action": "failed (mail was refused)", "status": "{} (bad destination)"},
    "older": {
        "action": "Failed",
        "last_attempt_date": "29 Nov 26 12:00:00 EST",
        "remote_mta": None,
    },
    "no remote": {"remote_mta": None, "last_attempt_date": "yesterday, GMT+00:00"},
    "unicode": {"final_recipient": "utf-8; \\x{61}nn@example.org"},
}


def refusals() -> Iterator[Example]:
    """Yield the reports of each server with each reply."""
    for server, changes in SERVERS.items():
        for number, (status, reply, reply_class) in enumerate(REPLIES):
            words = reply.replace("; ", ";\r\n    ") if server == "folded" else reply
            values = {"diagnostic_code": f"smtp; {words}", "status": status} | changes
            values["status"] = (values["status"] or "").format(status)
            kind = "global-delivery-status" if server == "unicode" else "delivery-status"
            content = dsn(recipient_block(**values), kind=kind)
            name = f"{server} {number}"
            yield Example(name, content, MailKind.DSN, Action.FAILED, reply_class)


def other_actions() -> Iterator[Example]:
    """Yield the reports that are no failures."""
    later = "smtp; 451 4.4.1 Connection timed out"
    for action in (Action.DELAYED, Action.DELIVERED, Action.RELAYED, Action.EXPANDED):
        status = "4.4.1" if action is Action.DELAYED else "2.0.0"
        for diagnostic in (later, None):
            block = recipient_block(action=action.value, status=status, diagnostic_code=diagnostic)
            yield Example(f"{action} {diagnostic}", dsn(block), MailKind.DSN, action)
    block = recipient_block(action=None, status="4.2.0", diagnostic_code=None)
    yield Example("no action", dsn(block), MailKind.DSN, Action.DELAYED)


def without_words() -> Iterator[Example]:
    """Yield failures that quote no reply: their class is not known, whatever their status says."""
    for status in ("5.1.1", "5.0.0", "5.4.7", "4.4.7", "5.7.1", "", "nonsense"):
        for server in ("postfix", "exchange", "opensmtpd"):
            values = dict(SERVERS[server])
            values |= {"diagnostic_code": None, "status": status or None}
            content = dsn(recipient_block(**values))
            name = f"{server} without words {status}"
            yield Example(name, content, MailKind.DSN, Action.FAILED, C.UNDETERMINED)


def several_recipients() -> Iterator[Example]:
    """Yield reports about several recipients, of whom ours is one."""
    other = recipient_block(
        final_recipient="rfc822; eve@example.org", action="delivered", status="2.0.0"
    )
    delayed = recipient_block(action="delayed", status="4.2.0")
    yield Example(
        "ours first", dsn(recipient_block(), other), MailKind.DSN, Action.FAILED, C.MAILBOX_UNKNOWN
    )
    yield Example(
        "ours last", dsn(other, recipient_block()), MailKind.DSN, Action.FAILED, C.MAILBOX_UNKNOWN
    )
    yield Example("ours delayed", dsn(other, delayed), MailKind.DSN, Action.DELAYED)
    unknown = other.replace("eve", "kim").replace("delivered", "failed")
    yield Example("others that differ", dsn(other, unknown), MailKind.DSN)


def complaints() -> Iterator[Example]:
    """Yield complaints of feedback loops."""
    for kind in (
        "abuse",
        "fraud",
        "virus",
        "other",
        "Abuse",
        "opt-out",
        "not-spam",
        "auth-failure",
    ):
        for name, more in {
            "plain": {},
            "yahoo": {"original_rcpt_to": ANN, "arrival_date": "Sun, 29 Nov 2026 12:00:00 UTC"},
            "sender without brackets": {
                "source_ip": "192.0.2.1",
                "reporting_mta": "dns; isp.example",
            },
        }.items():
            content = arf(kind, **more)
            yield Example(f"{kind} {name}", content, MailKind.ARF, feedback_type=kind.lower())


def automatic() -> Iterator[Example]:
    """Yield what programs answer for a person (RFC 3834, RFC 8098)."""
    for name, header in {
        "rfc 3834": "Auto-Submitted: auto-replied",
        "with a comment": "Auto-Submitted: auto-replied; owner-email=ann@example.org",
        "vacation": "Precedence: auto_reply",
        "exchange": "X-Auto-Response-Suppress: All",
        "cpanel": "X-Autorespond: Away",
        "older": "X-Autoreply: yes",
    }.items():
        text = f"From: Ann <{ANN}>\r\nSubject: Away\r\n{header}\r\n\r\nI am away. User unknown?\r\n"
        yield Example(name, text.encode(), MailKind.AUTOMATIC)
    head = "Content-Type: message/disposition-notification"
    receipt = f"{head}\r\n\r\nDisposition: manual-action; displayed\r\n"
    content = multipart("disposition-notification", [receipt], From=ANN)
    yield Example("receipt", content, MailKind.AUTOMATIC)


def old_shapes() -> Iterator[Example]:
    """Yield bounces that have no part for programs, and mails that are none."""
    qmail = (
        "From: MAILER-DAEMON@mx.example\r\nSubject: failure notice\r\n\r\n"
        "Hi. This is the qmail-send program at mx.example.\r\n"
        "I'm afraid I wasn't able to deliver your message to the following addresses.\r\n"
        "This is a permanent error; I've given up. Sorry it didn't work out.\r\n\r\n"
        f"<{ANN}>:\r\n192.0.2.7 does not like recipient.\r\n"
        "Remote host said: 550 5.1.1 User unknown\r\nGiving up on 192.0.2.7.\r\n\r\n"
        "--- Below this line is a copy of the message.\r\n\r\nReturn-Path: <x@our.example>\r\n"
    )
    yield Example("qmail", qmail.encode(), MailKind.DSN, Action.FAILED, C.MAILBOX_UNKNOWN)
    exim = (
        "From: Mail Delivery System <Mailer-Daemon@mx.example>\r\nAuto-Submitted: auto-replied\r\n"
        f"X-Failed-Recipients: {ANN}\r\nSubject: Mail delivery failed\r\n\r\n"
        "A message that you sent could not be delivered to one or more of its recipients.\r\n\r\n"
        f"  {ANN}\r\n    host mx.example.org [192.0.2.7]\r\n"
        "    SMTP error from remote mail server after RCPT TO:<ann@example.org>:\r\n"
        "    550 5.7.1 Message rejected due to local policy\r\n"
    )
    yield Example("exim", exim.encode(), MailKind.DSN, Action.FAILED, C.POLICY)
    yield Example(
        "a person", b"From: ann@example.org\r\nSubject: hi\r\n\r\nHello\r\n", MailKind.OTHER
    )
    yield Example("nothing", b"", MailKind.OTHER)
    broken = multipart("delivery-status", ["Content-Type: text/plain\r\n\r\nBad\r\n", returned()])
    yield Example("no status part", broken, MailKind.UNREADABLE)
    empty = multipart("delivery-status", ["Content-Type: message/delivery-status\r\n\r\n\r\n"])
    yield Example("empty status", empty, MailKind.UNREADABLE)
    feedback = multipart(
        "feedback-report", ["Content-Type: message/feedback-report\r\n\r\nx: y\r\n"]
    )
    yield Example("empty feedback", feedback, MailKind.UNREADABLE)


# What the sender of each report of a real Postfix 3.7 met; the recipient is that of the file.
POSTFIX: dict[str, tuple[Action, ReplyClass | None]] = {
    "mailbox_unknown": (Action.FAILED, C.MAILBOX_UNKNOWN),
    "mailbox_disabled": (Action.FAILED, C.MAILBOX_DISABLED),
    "mailbox_full": (Action.FAILED, C.MAILBOX_FULL),
    "policy-rcpt": (Action.FAILED, C.POLICY),
    "policy-dot": (Action.FAILED, C.POLICY),
    "content": (Action.FAILED, C.CONTENT),
    "temporary-451": (Action.FAILED, C.TEMPORARY),
    "temporary-connect": (Action.FAILED, C.TEMPORARY),
    "relayed": (Action.RELAYED, None),
}
# The same of Exim 4.96 and Postfix 3.7. A file has the name of its recipient and of the action; the
# next server had the refusals of a script.
SERVED: Mapping[str, Mapping[str, ReplyClass | None]] = {
    "exim": {
        "auth-failed": C.AUTH_SENDER,
        "delivered-delivered": None,
        "disabled-failed": C.MAILBOX_DISABLED,
        "expanded-delivered": None,
        "expanded-failed": C.UNDETERMINED,  # of a member of the list
        "full-delayed": None,
        "full-failed": C.EXPIRED,  # Exim adds to the reply that its time is over
        "fullperm-failed": C.MAILBOX_FULL,
        "grey-delayed": None,
        "grey-failed": C.EXPIRED,
        "idn-failed": C.MAILBOX_UNKNOWN,
        "local-unknown-failed": C.UNDETERMINED,  # only a person is told why
        "mixed-delivered": None,
        "mixed-failed": C.MAILBOX_UNKNOWN,
        "multi-failed": C.MAILBOX_UNKNOWN,
        "nodomain-delayed": None,
        "nodomain-failed": C.UNDETERMINED,
        "noenh-failed": C.MAILBOX_UNKNOWN,
        "policy-failed": C.POLICY,
        "relay-failed": C.RELAY_DENIED,
        "relayed-delivered": None,
        "several-delayed": None,
        "several-failed": C.MAILBOX_UNKNOWN,
        "size-delivered": None,
        "spam-failed": C.SPAM_BLOCK,
        "toobig-failed": C.TOO_BIG,
        "unknown-failed": C.MAILBOX_UNKNOWN,
        "utf8-failed": C.MAILBOX_UNKNOWN,
    },
    "postfix": {
        "auth-failed": C.AUTH_SENDER,
        "connect-delayed": None,
        "connect-failed": C.TEMPORARY,
        "delivered-delivered": None,
        "disabled-failed": C.MAILBOX_DISABLED,
        "expanded-expanded": None,
        "expanded-failed": C.UNDETERMINED,
        "full-delayed": None,
        "full-failed": C.MAILBOX_FULL,
        "fullperm-failed": C.MAILBOX_FULL,
        "grey-delayed": None,
        "grey-failed": C.TEMPORARY,
        "idn-failed": C.MAILBOX_UNKNOWN,
        "mixed-failed": C.MAILBOX_UNKNOWN,
        "mixed-relayed": None,
        "multi-failed": C.MAILBOX_UNKNOWN,
        "noenh-failed": C.MAILBOX_UNKNOWN,
        "policy-failed": C.POLICY,
        "relay-failed": C.RELAY_DENIED,
        "relayed-relayed": None,
        "several-delayed": None,
        "several-failed": C.MAILBOX_UNKNOWN,
        "size-failed": C.TOO_BIG,
        "spam-failed": C.SPAM_BLOCK,
        "toobig-failed": C.TOO_BIG,
        "unknown-failed": C.MAILBOX_UNKNOWN,
        "utf8-failed": C.MAILBOX_UNKNOWN,
    },
}
# The other recipients are those of the name, at x.example.
RECIPIENTS: Mapping[str, str] = {
    "connect-delayed": "ann@away.example",
    "connect-failed": "ann@away.example",
    "expanded-delivered": "list@local.their.example",
    "expanded-expanded": "list@local.their.example",
    "expanded-failed": "list@local.their.example",
    "idn-failed": "unknown@bücher.example",
    "local-unknown-failed": "eve@local.their.example",
    "mixed-delivered": "ok@plain.example",
    "mixed-failed": "unknown@x.example",
    "mixed-relayed": "ok@plain.example",
    "nodomain-delayed": "ann@nodomain.example",
    "nodomain-failed": "ann@nodomain.example",
    "relayed-delivered": "ok@plain.example",
    "relayed-relayed": "ok@plain.example",
    "several-delayed": "full@x.example",
    "several-failed": "unknown@x.example",
    "size-delivered": "ann@plain.example",
    "size-failed": "ann@plain.example",
    "utf8-failed": "unknown+jürgen@x.example",
}
_FOLDER = Path(__file__).parent


def of_servers() -> Iterator[Example]:
    """Yield the reports that a Postfix and an Exim have made."""
    for name, (action, reply_class) in POSTFIX.items():
        content = (_FOLDER / "postfix" / f"{name}.eml").read_bytes()
        yield Example(f"postfix's {name}", content, MailKind.DSN, action, reply_class)
    for server, names in SERVED.items():
        for name, found in names.items():
            content = (_FOLDER / server / f"{name}.eml").read_bytes()
            local, _, last = name.rpartition("-")
            to = RECIPIENTS.get(name, f"{local}@x.example")
            yield Example(
                f"{server}'s {name}",
                content,
                MailKind.DSN,
                Action(last),
                found,
                recipient=to,
            )


EXAMPLES = (
    *of_servers(),
    *refusals(),
    *other_actions(),
    *without_words(),
    *several_recipients(),
    *complaints(),
    *automatic(),
    *old_shapes(),
)
