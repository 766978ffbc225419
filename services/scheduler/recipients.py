"""Pure: a mail for later without the recipients who were forgotten."""

from collections.abc import Callable

from shared.contracts import SendEmail
from shared.contracts.address import bare_address


def without(command: SendEmail, is_gone: Callable[[str], bool]) -> SendEmail | None:
    """Return a mail without some of its recipients, None if it has no others.

    A mail that has nobody left in `to` is to those in `cc`, or to the only one in `bcc`. Several in
    `bcc` must not see each other: then `to` stays as it was, and gets no mail.
    """
    everyone = map(bare_address, (*command.to, *command.cc, *command.bcc))
    if not any(map(is_gone, everyone)):
        return command
    to, cc, bcc = (
        tuple(each for each in mailboxes if not is_gone(bare_address(each)))
        for mailboxes in (command.to, command.cc, command.bcc)
    )
    pending = tuple(each for each in command.recipients if not is_gone(each))
    if not pending:
        return None
    if not to and cc:
        to, cc = cc, ()
    if not to and len(bcc) == 1:
        to, bcc = bcc, ()
    all_are_left = bool(to) and command.pending is None
    changes = {"to": to or command.to, "cc": cc, "bcc": bcc}
    return command.model_copy(update={**changes, "pending": None if all_are_left else pending})
