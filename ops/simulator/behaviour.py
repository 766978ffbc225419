"""How the simulator as a whole behaves, as data that goes in and out as JSON."""

from typing import Annotated, Final, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

Extension = Literal[
    "PIPELINING",
    "SIZE",
    "8BITMIME",
    "SMTPUTF8",
    "STARTTLS",
    "AUTH",
]
EXTENSIONS: Final[tuple[Extension, ...]] = get_args(Extension)

# A refusal is what RFC 5321 4.2 allows in one line; 421 also ends the connection.
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
    """Frozen and strict: an unknown field or a value of another type is an error."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class MailRate(_Part):
    """A token bucket over the whole server, spent at MAIL."""

    per_second: float = Field(gt=0, le=100_000)
    burst: int = Field(default=1, ge=1, le=100_000)
    reply: SmtpRefusal = "450 4.7.1 Too many mails, try again later"


class SessionLimit(_Part):
    """A limit of mails for one connection, the reply beyond it, and the command that gets it.

    The connection stays open, and is told the same again, unless the reply is a 421.
    """

    mails: int = Field(ge=1)
    reply: SmtpRefusal = "452 4.4.5 Maximum number of messages per session exceeded"
    stage: Literal["mail", "rcpt", "data"] = "mail"


class RecipientLimit(_Part):
    """A limit of recipients for one mail, and the reply to those beyond it."""

    recipients: int = Field(ge=1)
    reply: SmtpRefusal = "452 4.5.3 Too many recipients"


class StageRefusals(_Part):
    """Replies that refuse everybody at a stage, such as `554 5.7.1 Blocked`.

    With `closes` the connection is closed after any of them.
    """

    connect: SmtpRefusal | None = None
    ehlo: SmtpRefusal | None = None
    helo: SmtpRefusal | None = None
    auth: SmtpRefusal | None = None
    closes: bool = False


class Behaviour(_Part):
    """Everything that can be asked of the whole; the defaults are good manners.

    Times are in milliseconds, sizes in octets; `None` is no limit.

    `latency_ms` is a distance: what a client sends is answered that much later, and
    commands that are pipelined share one such wait. `service_ms` is the work for one
    mail between its final dot and the reply, done for `served_at_once` mails in
    parallel; the others queue, first come first served.
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
    require_tls: bool = False
    require_auth: bool = False
