"""Pure: the arguments of MAIL and RCPT, or the reply that refuses them."""

import re
from typing import NamedTuple

from shared.contracts import address

_PATH = re.compile(r"[^:]*:[ ]*<([^<>\x00-\x1f\x7f]{0,400})>(?: +(.*))?", re.DOTALL)
_BODIES = frozenset({"7BIT", "8BITMIME"})


class Refused(Exception):
    """The mail, or its sender, is refused by this SMTP reply."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.reply = reply


class Begun(NamedTuple):
    """The path of MAIL, empty for a report, and whether SMTPUTF8 was asked for."""

    path: str
    is_utf8: bool


def read_mail(arg: str, max_octets: int) -> Begun:
    """Return the meaning of MAIL. Raises Refused."""
    path, parameters = _split(arg, "FROM")
    is_utf8 = False
    for parameter in parameters.split():
        name, _, value = parameter.upper().partition("=")
        if name == "SIZE" and value.isascii() and value.isdigit():
            if len(value) > len(str(max_octets)) or int(value) > max_octets:
                raise Refused(too_big(max_octets))
        elif name == "SMTPUTF8" and not value:
            is_utf8 = True
        elif not (name == "BODY" and value in _BODIES) and name != "AUTH":
            raise Refused("555 5.5.4 SIZE, BODY, SMTPUTF8 and AUTH are known")
    _check_ascii(path, is_utf8=is_utf8)
    return Begun(path, is_utf8)


def read_rcpt(arg: str, *, is_utf8: bool) -> str:
    """Return the path of RCPT. Raises Refused."""
    path, parameters = _split(arg, "TO")
    if parameters:
        raise Refused("555 5.5.4 RCPT has no parameters here")
    _check_ascii(path, is_utf8=is_utf8)
    return path


def read_address(path: str, code: str) -> str:
    """Return an address in its canonical form. Raises Refused, with a code, for what is none."""
    try:
        return address.check_address(path)
    except ValueError as error:
        raise Refused(f"{code} The address {error}") from None


def too_big(max_octets: int) -> str:
    """Return the reply to a mail that is too big."""
    return f"552 5.3.4 A mail has at most {max_octets} bytes"


def _split(arg: str, keyword: str) -> tuple[str, str]:
    found = _PATH.fullmatch(arg.strip(" "))
    if found is None or not arg.strip(" ").upper().startswith(f"{keyword}:"):
        raise Refused(f"501 5.5.4 Syntax: {keyword}:<address>")
    return found[1], found[2] or ""


def _check_ascii(path: str, *, is_utf8: bool) -> None:
    if not is_utf8 and not path.isascii():
        raise Refused("553 5.6.7 An address that is not ASCII needs SMTPUTF8 at MAIL")
