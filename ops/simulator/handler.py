"""The replies to EHLO, AUTH, MAIL, RCPT and the final dot."""

# ruff: noqa: N802  # aiosmtpd looks the methods up by these names

import logging
from collections.abc import Sequence

from aiosmtpd.smtp import MISSING, Envelope, Session

from ops.simulator.mailbox import Mailbox
from ops.simulator.policy import SmtpPolicy
from ops.simulator.smtp import HOSTNAME, SmtpServerProtocol

_log = logging.getLogger(__name__)


class SmtpHandler:
    """The handler that aiosmtpd calls, one for all connections."""

    def __init__(self, policy: SmtpPolicy, mailbox: Mailbox) -> None:
        self._policy = policy
        self._mailbox = mailbox

    async def handle_EHLO(
        self,
        server: SmtpServerProtocol,
        session: Session,
        _envelope: Envelope,
        hostname: str,
        _responses: Sequence[str],
    ) -> list[str]:
        """Offer the extensions of the present behaviour."""
        if refusal := self._policy.behaviour.refuse.ehlo:
            return [refusal]
        session.host_name = hostname
        server.enable_SMTPUTF8 = self._policy.offers("SMTPUTF8")
        server.data_size_limit = self._policy.behaviour.size_limit
        lines = [HOSTNAME, *self._extensions(server), "HELP"]
        return [f"250-{line}" for line in lines[:-1]] + [f"250 {lines[-1]}"]

    async def handle_HELO(
        self,
        server: SmtpServerProtocol,
        session: Session,
        _envelope: Envelope,
        hostname: str,
    ) -> str:
        """Greet a client without ESMTP."""
        if refusal := self._policy.behaviour.refuse.helo:
            return refusal
        session.host_name = hostname
        server.data_size_limit = self._policy.behaviour.size_limit
        return f"250 {HOSTNAME}"

    async def handle_AUTH(self, *_about: object) -> object:
        """Refuse all logins if the behaviour says so; else the authenticator decides."""
        return self._policy.behaviour.refuse.auth or MISSING

    async def handle_MAIL(
        self,
        server: SmtpServerProtocol,
        _session: Session,
        envelope: Envelope,
        address: str,
        options: list[str],
    ) -> str:
        """Begin a mail."""
        sender = _bare(address)
        fault = self._policy.on_mail(sender, options, server.smtp_session.mails)
        if reply := await server.apply(fault) or _malformed(address, envelope):
            return reply
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(
        self,
        server: SmtpServerProtocol,
        _session: Session,
        envelope: Envelope,
        address: str,
        _options: list[str],
    ) -> str:
        """Add a recipient."""
        if envelope.content is not None:
            return "503 5.5.1 BDAT has begun"
        sender = _bare(envelope.mail_from or "")
        fault = self._policy.on_rcpt(
            sender, address, server.smtp_session.mails, len(envelope.rcpt_tos)
        )
        if reply := await server.apply(fault) or _malformed(address, envelope):
            return reply
        if not _bare(address):
            return "501 5.1.3 The recipient is empty"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(
        self, server: SmtpServerProtocol, _session: Session, envelope: Envelope
    ) -> str:
        """Serve the mail in its turn, then store it."""
        fault = self._policy.on_dot(envelope.rcpt_tos)
        with server.at_work():
            await self._policy.service_queue.serve()
        if reply := await server.apply(fault):
            return reply
        content = envelope.content
        raw = content if isinstance(content, bytes) else b""
        sender = _bare(envelope.mail_from or "")
        mail = self._mailbox.keep(sender, envelope.rcpt_tos, raw)
        server.smtp_session.mails += 1
        if fault.cut_after:
            server.cut()
        return f"250 2.0.0 Kept as {mail.id}"

    async def handle_exception(self, error: Exception) -> str:
        """Refuse for now after an internal error, such as a full disk."""
        _log.error("a mail could not be served", exc_info=error)
        return "451 4.3.0 Internal error of the simulator"

    def _extensions(self, server: SmtpServerProtocol) -> list[str]:
        lines = []
        for extension in self._policy.behaviour.extensions:
            if extension == "SIZE":
                lines.append(f"SIZE {self._policy.behaviour.size_limit}")
            elif extension == "AUTH":
                lines.append("AUTH LOGIN PLAIN")
            elif extension != "STARTTLS" or (server.tls_context and not server.encrypted):
                lines.append(extension)
        return lines


def _bare(address: str) -> str:
    return "" if address == "<>" else address  # aiosmtpd's form of the null sender


def _malformed(address: str, envelope: Envelope) -> str | None:
    if address.isascii():
        return None
    if not envelope.smtp_utf8:
        return "553 5.6.7 This address needs SMTPUTF8"  # RFC 6531 3.5
    try:
        address.encode()
    except UnicodeEncodeError:
        return "553 5.1.3 This address is not UTF-8"
    return None
