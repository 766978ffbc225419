"""Challenges in the database: one alive for each holder, guesses counted, used up once."""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TypeVar

import sqlalchemy as sa

from services.otp import guesses, issues
from services.otp.allowance import Guess, GuessDecision
from services.otp.challenge import CodePolicy
from services.otp.guesses import CodeUse
from services.otp.issuance import IssueRequest, IssueResult
from services.otp.statements import ChallengeStatements
from services.otp.transaction import OtpTransaction
from shared.batch import Batcher
from shared.storage import dialect
from shared.storage.database import Database, as_handler_errors
from shared.storage.dialect import Clock

T = TypeVar("T")


class ChallengeStore:
    """The challenges of this deployment.

    What is asked for at the same time is done in one transaction. Everything raises Retry when
    the database is away, and Reject when it cannot hold a value.
    """

    def __init__(self, database: Database, rules: CodePolicy, clock: Clock = dialect.now) -> None:
        self._database = database
        self._rules = rules
        self._clock = clock
        self._words: dict[str, ChallengeStatements] = {}  # by dialect
        self._orders = Batcher(self._fulfil)

    async def issue(self, order: IssueRequest) -> IssueResult:
        """Answer a command with a challenge to be mailed, or with a refusal.

        The same command gets the same answer again, even if its challenge is dead.
        """
        return await self._orders.add(order)

    async def guess(self, guessed: Sequence[Guess]) -> Sequence[GuessDecision]:
        """Count guesses and give the challenge that each may be compared with, if there is any.

        It is committed before it is compared: no crash gives a guess back. A guess that was
        counted before is given as it was then, and counts nothing; nor does one past a limit.
        """
        return await self._write(lambda here: guesses.record(here, self._rules, guessed))

    async def use(self, uses: Sequence[CodeUse]) -> Collection[str]:
        """Use challenges up; give the one guess for each that does, however often it asks."""
        if not uses:
            return ()
        return await self._write(lambda here: guesses.use(here, uses))

    async def cancel(self, challenge_id: str, client: str) -> None:
        """Let a challenge of this client be right no more; harmless if there is none."""
        named = {"of_id": challenge_id, "of_client": client}
        await self._write(lambda here: here.each(here.say.cancelling, [named]))

    async def purge(self) -> int:
        """End what has expired, delete what has been dead for long, and tell how much that was.

        In pieces, each whole in itself.
        """
        await self._repeat(lambda here: here.change(here.say.expiring))
        tables = len(await self._write(lambda here: here.say.forgetting))
        return sum([await self._repeat(partial(_forget, number)) for number in range(tables)])

    async def _repeat(self, work: Callable[[OtpTransaction], int]) -> int:
        changed = 0
        while rows := await self._write(work):
            changed += rows
        return changed

    async def _fulfil(self, orders: Sequence[IssueRequest]) -> Sequence[IssueResult]:
        return await self._write(lambda here: issues.fulfil(here, self._rules, orders))

    async def _write(self, work: Callable[[OtpTransaction], T]) -> T:
        with as_handler_errors("the codes"):
            return await self._database.write(lambda connection: work(self._begun(connection)))

    def _begun(self, connection: sa.Connection) -> OtpTransaction:
        name = connection.dialect.name
        if name not in self._words:
            self._words[name] = ChallengeStatements(connection, self._clock)
        return OtpTransaction(connection, self._words[name])


def _forget(table: int, here: OtpTransaction) -> int:
    return here.change(here.say.forgetting[table])
