"""Finds the mails that reports are about, those of many questions in one transaction."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain

import sqlalchemy as sa

from services.ledger.answers import KeptMail, reference
from services.ledger.mails import id_of_message
from services.ledger.store.reader import BY_KEY, MAX_PAGE_RECIPIENTS, numbers_of, stored
from services.ledger.store.sql import message_ids
from shared.batch import Batcher
from shared.contracts import FindEmail, MailReference
from shared.contracts.fields import MAX_RECIPIENTS
from shared.return_path import address_hash, text_hash
from shared.storage.database import Database, as_handler_errors

_BY_MESSAGE_ID = (
    sa.select(message_ids.c.message)
    .where(message_ids.c.id_hash == sa.bindparam("id_hash"))
    .where(message_ids.c.address_hash == sa.bindparam("address_hash"))
    .order_by(message_ids.c.message.desc())
    .limit(2)  # with two the report is about neither for certain
)


class ReportedMails:
    """Finds the mails that reports name."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._questions = Batcher(self._find)

    async def find(self, question: FindEmail) -> MailReference | None:
        """Return the mail that a report names, None if there is none or several.

        Raises Retry when the database is away.
        """
        return await self._questions.add(question)

    async def _find(self, questions: Sequence[FindEmail]) -> Sequence[MailReference | None]:
        with as_handler_errors("the ledger"):
            return await self._database.read_inline(partial(_find, questions=questions))


def _find(
    connection: sa.Connection, questions: Sequence[FindEmail]
) -> Sequence[MailReference | None]:
    """Return the mail that each question names for certain."""
    numbers = [_reported_numbers(connection, each) for each in questions]
    mails = _stored_all(connection, [*dict.fromkeys(chain.from_iterable(numbers))])
    return [
        _reported(question, [mails[each] for each in some if each in mails])
        for question, some in zip(questions, numbers, strict=True)
    ]


def _reported_numbers(connection: sa.Connection, question: FindEmail) -> Sequence[int]:
    if question.mail_key is not None:
        key = bytes.fromhex(question.mail_key)
        return connection.execute(BY_KEY, {"first": key, "last": key}).scalars().all()
    email_id = question.email_id or id_of_message(question.message_id or "")
    numbers = numbers_of(connection, email_id, None) if email_id else []
    address = _reported_address(question)
    if question.message_id is None or address is None:
        return numbers
    of = {"id_hash": text_hash(question.message_id), "address_hash": address}
    return [*numbers, *connection.execute(_BY_MESSAGE_ID, of).scalars()]


def _reported_address(question: FindEmail) -> int | None:
    if question.recipient is None:
        return question.address_hash
    return address_hash(question.recipient)


def _reported(question: FindEmail, mails: Sequence[KeptMail]) -> MailReference | None:
    address = _reported_address(question)
    if address is None and len(mails) > 1:
        return None
    found = [reference(mail, address, question.message_id) for mail in mails]
    known = [each for each in found if each is not None]
    return known[0] if len(known) == 1 else None


def _stored_all(connection: sa.Connection, numbers: Sequence[int]) -> Mapping[int, KeptMail]:
    """Return mails by their numbers, some at a time, of which none has too many recipients."""
    some = MAX_PAGE_RECIPIENTS // MAX_RECIPIENTS
    parts = (numbers[start : start + some] for start in range(0, len(numbers), some))
    return {mail.message.number: mail for part in parts for mail in stored(connection, part)}
