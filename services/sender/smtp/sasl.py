"""The exchange of a login, led by the server's challenges (RFC 4954), with aiosmtplib.

The library encodes the responses. Its own logins respond without reading the challenge, and so send
a password to a server that asks for the name (issue 10, S5).
"""

import base64
import binascii
from collections.abc import Callable, Generator, Iterable, Mapping

from aiosmtplib import SMTP, SMTPAuthenticationError, SMTPException
from aiosmtplib.auth import (
    auth_crammd5_verify,
    auth_login_encode,
    auth_plain_encode,
    auth_xoauth2_encode,
)

from services.sender.smtp.relay import Auth

CHALLENGE = 334  # RFC 4954 4
MAX_PROMPT_CHARS = 100  # of a challenge, in an error text

# Yields the argument of AUTH, then a response to each challenge. It ends at an unknown challenge.
Exchange = Generator[bytes, str, None]


async def log_in(smtp: SMTP, auth: Auth, username: str, secret: str) -> None:
    """Log in by `auth` with a password or a token, the `secret`.

    An unknown challenge gets no response. Raises SMTPAuthenticationError with the server's refusal,
    SMTPException, OSError; no error text has a secret.
    """
    exchange = _EXCHANGES[auth](username, secret)
    line = next(exchange)
    sent = [secret, *line.decode().split()[1:]]
    answer = await smtp.execute_command(b"AUTH", line)
    while answer.code == CHALLENGE:
        try:
            line = exchange.send(answer.message)
        except StopIteration:
            prompt = _decoded(answer.message) or answer.message
            asked = _without(sent, prompt)[:MAX_PROMPT_CHARS]
            raise SMTPException(f"the server asks for something else: {asked!r}") from None
        sent.append(line.decode())
        answer = await smtp.execute_command(line)
    if answer.code // 100 != 2:  # noqa: PLR2004 -- RFC 5321 4.2.1
        raise SMTPAuthenticationError(answer.code, _without(sent, answer.message))


def _plain(username: str, password: str) -> Exchange:
    """Log in by RFC 4616. An empty challenge asks for the initial response once more."""
    response = auth_plain_encode(username, password)
    challenge = yield b"PLAIN " + response
    if not challenge:
        yield response


def _login(username: str, password: str) -> Exchange:
    """Log in by draft-murchison-sasl-login: name, then password. A prompt may be empty."""
    name, word = auth_login_encode(username, password)
    challenge = yield b"LOGIN"
    if _asks_for_password(challenge):
        return
    challenge = yield name
    if not challenge or _asks_for_password(challenge):
        yield word


def _cram_md5(username: str, password: str) -> Exchange:
    """Log in by RFC 2195: sign the challenge. An empty one always has the same signature."""
    challenge = yield b"CRAM-MD5"
    if _decoded(challenge):
        yield auth_crammd5_verify(username, password, challenge)


def _xoauth2(username: str, token: str) -> Exchange:
    """Log in as at Google and Microsoft, where a challenge has the reason of a refusal.

    An empty line then asks for the refusal itself. An empty challenge asks for the initial
    response, as with PLAIN.
    """
    response = auth_xoauth2_encode(username, token)
    challenge = yield b"XOAUTH2 " + response
    if not challenge:
        challenge = yield response
    if challenge:
        yield b""


_EXCHANGES: Mapping[Auth, Callable[[str, str], Exchange]] = {
    Auth.PLAIN: _plain,
    Auth.LOGIN: _login,
    Auth.CRAM_MD5: _cram_md5,
    Auth.XOAUTH2: _xoauth2,
}


def _asks_for_password(challenge: str) -> bool:
    # Some servers do not encode their challenge.
    return "pass" in f"{challenge} {_decoded(challenge)}".lower()


def _decoded(challenge: str) -> str:
    """Return the text of a challenge, empty if it is not base64."""
    try:
        return base64.b64decode(challenge, validate=True).decode(errors="replace")
    except (binascii.Error, ValueError):
        return ""


def _without(sent: Iterable[str], text: str) -> str:
    """Return a text without the secrets: some servers repeat them."""
    for each in filter(None, sent):
        text = text.replace(each, "***")
    return text
