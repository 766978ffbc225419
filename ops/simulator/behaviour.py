"""The behaviour of the simulated server, as JSON of the API, and the faults of addresses. Pure.

The local part of an address asks for faults. It is read in pieces between `+`, so that
`reply-rcpt-550-5-1-1+anna@x` and `anna+slow-200-dot@x` do so as well, and each test can have
recipients of its own.

    reply-<stage>-<code>[-<enhanced code with dashes>]   a 4xx or 5xx reply there
    drop-<stage>                                         the connection is cut there
    drop-after-dot                                       stored, then cut before the reply
    slow-<ms>-<stage>                                    the reply comes later
    greylist-<s>                                         451 4.7.1, for s seconds after a first try
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

Extension = Literal[
    "PIPELINING",
    "SIZE",
    "8BITMIME",
    "SMTPUTF8",
    "STARTTLS",
    "AUTH",
    "CHUNKING",
]
# By default. Where a server offers CHUNKING, a client may send no DATA.
EXTENSIONS: Final[tuple[Extension, ...]] = tuple(
    each for each in get_args(Extension) if each != "CHUNKING"
)
BdatFault = Literal["unknown", "refused", "silent", "cut", "hangs"]
Stage = Literal["mail", "rcpt", "data", "dot"]

_STAGE: Final = "(?P<stage>mail|rcpt|data|dot)"
_REPLY: Final = re.compile(
    rf"reply-{_STAGE}-(?P<code>[45]\d\d)(?P<enhanced>-[45]-\d{{1,3}}-\d{{1,3}})?",
    re.ASCII,
)
_DROP: Final = re.compile(rf"drop-(?P<after>after-(?=dot))?{_STAGE}")
_SLOW: Final = re.compile(rf"slow-(?P<ms>\d{{1,6}})-{_STAGE}", re.ASCII)
_GREYLIST: Final = re.compile(r"greylist-(?P<seconds>\d{1,5})", re.ASCII)
_PREFIXES: Final = ("reply-", "drop-", "slow-", "greylist-")

# A reply of one line (RFC 5321 4.2); 421 also closes the connection.
SmtpRefusal = Annotated[
    str,
    StringConstraints(
        pattern=r"^[45][0-9]{2}( [45]\.[0-9]{1,3}\.[0-9]{1,3})?( [\x20-\x7e]{1,400})?$"
    ),
]
Milliseconds = Annotated[int, Field(ge=0, le=600_000)]


def _each_once(extensions: tuple[Extension, ...]) -> tuple[Extension, ...]:
    if len(set(extensions)) < len(extensions):
        raise ValueError("an extension is listed twice")
    return extensions


class _Part(BaseModel):
    """A frozen and strict model: an unknown field or a value of another type is an error."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class MailRate(_Part):
    """A token bucket for the whole server; each MAIL takes one token."""

    per_second: float = Field(gt=0, le=100_000)
    burst: int = Field(default=1, ge=1, le=100_000)
    reply: SmtpRefusal = "450 4.7.1 Too many mails, try again later"


class SessionLimit(_Part):
    """A limit of mails for one connection, the reply beyond it, and the refused command.

    The connection stays open, unless the reply is a 421, and each further command is refused.
    """

    mails: int = Field(ge=1)
    reply: SmtpRefusal = "452 4.4.5 Maximum number of messages per session exceeded"
    stage: Literal["mail", "rcpt", "data"] = "mail"


class RecipientLimit(_Part):
    """A limit of recipients for one mail, and the reply to each one beyond it."""

    recipients: int = Field(ge=1)
    reply: SmtpRefusal = "452 4.5.3 Too many recipients"


class StageRefusals(_Part):
    """Replies that refuse all clients at a stage, such as `554 5.7.1 Blocked`.

    `closes` closes the connection after any of them.
    """

    connect: SmtpRefusal | None = None
    ehlo: SmtpRefusal | None = None
    helo: SmtpRefusal | None = None
    auth: SmtpRefusal | None = None
    closes: bool = False


class Behaviour(_Part):
    """The behaviour towards all clients. By default nothing is refused or delayed.

    Times are in milliseconds, sizes in octets; `None` is no limit.

    `latency_ms` is a distance: everything that a client sends arrives so much later, so that
    pipelined commands wait once. `service_ms` is the work for one mail between its final dot and
    the reply, done for `served_at_once` mails in parallel; other mails queue in order of arrival.

    `bdat_fault` is a server that offers CHUNKING and fails at BDAT. To one to which it is `unknown`
    its octets are commands. The others read the octets, then say 503, send no reply and go on, cut
    the connection, or do nothing more.
    """

    latency_ms: Milliseconds = 0
    service_ms: Milliseconds = 0
    served_at_once: int | None = Field(default=None, ge=1, le=10_000)
    connections: int = Field(default=1000, ge=0, le=10_000)
    mails_per_connection: int | None = Field(default=None, ge=1)
    session: SessionLimit | None = None
    transaction: RecipientLimit | None = None
    rate: MailRate | None = None
    refuse: StageRefusals = StageRefusals()
    idle_timeout_ms: int = Field(default=300_000, ge=1, le=3_600_000)
    size_limit: int = Field(default=10 * 2**20, ge=1, le=64 * 2**20)
    extensions: Annotated[tuple[Extension, ...], AfterValidator(_each_once)] = EXTENSIONS
    bdat_fault: BdatFault | None = None
    require_tls: bool = False
    require_auth: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault at one stage: a wait, then a cut or a reply. By default there is none."""

    delay: float = 0.0  # seconds
    reply: str | None = None
    cut: bool = False
    cut_after: bool = False  # the dot only: store the mail, then cut
    greylist: int | None = None  # seconds, RCPT only


NO_FAULT: Final = Fault()


def fault_at(stage: Stage, addresses: Iterable[str]) -> Fault:
    """Return the fault of the first address that asks for one at this stage."""
    faults = (_fault(stage, address) for address in addresses)
    return next((fault for fault in faults if fault != NO_FAULT), NO_FAULT)


def _fault(stage: Stage, address: str) -> Fault:
    fault = NO_FAULT
    for piece in address.rpartition("@")[0].lower().split("+"):
        if piece.startswith(_PREFIXES):
            fault = _with(fault, stage, piece)
    return fault


def _with(fault: Fault, stage: Stage, piece: str) -> Fault:
    if (match := _GREYLIST.fullmatch(piece)) and stage == "rcpt":
        return replace(fault, greylist=int(match["seconds"]))
    match = next(filter(None, (p.fullmatch(piece) for p in (_REPLY, _DROP, _SLOW))), None)
    if match is None or match["stage"] != stage:
        return fault
    if match.re is _SLOW:
        return replace(fault, delay=int(match["ms"]) / 1000)
    if match.re is _REPLY:
        return replace(fault, reply=_reply(match["code"], match["enhanced"]))
    return replace(fault, cut_after=True) if match["after"] else replace(fault, cut=True)


def _reply(code: str, enhanced: str | None) -> str:
    status = f" {enhanced[1:].replace('-', '.')}" if enhanced else ""
    return f"{code}{status} As this address asks for"
