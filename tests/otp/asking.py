"""Requests and guesses for a store, each a new one unless an id is passed."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from itertools import count

import sqlalchemy as sa

from services.otp.codes import Challenge, CodeGenerator, CodePolicy, CodeScope
from services.otp.guessing import CodeUse, CountedGuess, Guess, GuessDecision
from services.otp.issuing import Issued, IssueRequest, IssueResult
from services.otp.limits import CodeLimits, Limit
from services.otp.store import ChallengeStore
from shared.storage.database import Database

GENERATOR = CodeGenerator([bytes(32)])
POLICY = CodePolicy(600_000, 60_000, tries=5, failures=30, key_ids=GENERATOR.key_ids)
FREE = replace(POLICY, cooldown=0)
ANNA = CodeScope("shop", "sign-in", "anna@example.com")
PEOPLE = [replace(ANNA, email=f"{number}@example.com") for number in range(20)]
NO_LIMITS = CodeLimits(0, 0, 0, 0, 0, 0)
IP = IPv4Address("192.0.2.7")

_numbers = count()


@dataclass(frozen=True)
class Asking:
    """Sends requests and guesses to one store."""

    store: ChallengeStore
    generator: CodeGenerator = field(default=GENERATOR)

    async def issue(
        self,
        scope: CodeScope,
        command_id: str | None = None,
        *,
        digits: int | None = None,
        limits: CodeLimits = NO_LIMITS,
    ) -> IssueResult:
        """Request a code."""
        new_challenge = self.generator.new_challenge(scope, digits)
        name = command_id or f"command/{next(_numbers)}"
        return await self.store.issue(IssueRequest(name, new_challenge, limits.of_mail(scope, IP)))

    async def challenge(
        self, scope: CodeScope, command_id: str | None = None, *, digits: int | None = None
    ) -> Challenge:
        """Request a code that is not refused; return its challenge."""
        answer = await self.issue(scope, command_id, digits=digits)
        assert isinstance(answer, Issued)
        return answer.challenge

    async def guess(
        self, scope: CodeScope, request_id: str | None = None, code: str = "no-code"
    ) -> Challenge | None:
        """Guess; return the challenge that the guess may be compared with."""
        return (await self.counted(scope, request_id, code)).challenge

    async def counted(
        self, scope: CodeScope, request_id: str | None = None, code: str = "no-code"
    ) -> CountedGuess:
        """Guess; the guess must be counted."""
        judged = await self.judged(scope, request_id, code)
        assert isinstance(judged, CountedGuess)
        return judged

    async def judged(
        self,
        scope: CodeScope,
        request_id: str | None = None,
        code: str = "no-code",
        limits: Sequence[Limit] = (),
    ) -> GuessDecision:
        """Guess; return the decision."""
        return await self.store.guess(self.made(scope, request_id, code, limits))

    def made(
        self,
        scope: CodeScope,
        request_id: str | None = None,
        code: str = "no-code",
        limits: Sequence[Limit] = (),
    ) -> Guess:
        """Return a guess that is not sent."""
        name = request_id or f"request/{next(_numbers)}"
        return Guess(self.generator.fingerprints(scope, name, code), scope, limits)

    async def together(self, guesses: Sequence[Guess]) -> Sequence[Challenge | None]:
        """Send some guesses at once; return the challenge that each may be compared with."""
        judged = await asyncio.gather(*map(self.store.guess, guesses))
        return [each.challenge if isinstance(each, CountedGuess) else None for each in judged]

    async def guesses(self, scope: CodeScope, number: int) -> int:
        """Guess so many times; return how many guesses may be compared."""
        return sum([await self.guess(scope) is not None for _ in range(number)])

    async def use(
        self, challenge: Challenge, request_id: str | None = None, code: str = "no-code"
    ) -> bool:
        """Guess right; return whether the guess uses the challenge up."""
        counted = await self.counted(challenge.scope, request_id, code)
        return await self.store.use(CodeUse(counted, challenge))


async def rows(database: Database, table: sa.Table) -> int:
    """Count the rows of a table."""
    count = sa.select(sa.func.count()).select_from(table)
    return await database.read(lambda connection: connection.scalar(count)) or 0
