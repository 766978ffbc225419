"""Pure: fixed codes, for the reviewers of app stores and for tests: known, and mailed to nobody."""

import hmac
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from prometheus_client import Counter
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from services.otp.codes import CodeScope, normalise
from services.otp.limits import SECOND_MS
from shared.contracts.codes import MAX_DIGITS, MIN_DIGITS
from shared.contracts.fields import Address, Moment

MAX_FIXED_CODES = 100  # a longer list is no list of testers

FIXED_ISSUED = Counter(
    "postrider_test_codes_issued", "Codes of OTP_TEST_CODES requested, for which nothing was mailed"
)
FIXED_VERIFIED = Counter("postrider_test_codes_verified", "Codes of OTP_TEST_CODES verified")


class FixedCode(BaseModel):
    """The code of an address, and its end, which has to be given."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    code: str = Field(pattern=rf"^[0-9]{{{MIN_DIGITS},{MAX_DIGITS}}}$", repr=False)
    until: Moment


def _check_spellings(codes: Mapping[str, FixedCode]) -> Mapping[str, FixedCode]:
    if len({email.lower() for email in codes}) < len(codes):
        raise ValueError("must have each address once")
    return codes


FixedCodeTable = Annotated[
    Mapping[Address, FixedCode],
    Field(max_length=MAX_FIXED_CODES),
    AfterValidator(_check_spellings),
]


class FixedCodes:
    """The fixed codes by address, in any spelling; times are milliseconds since 1970."""

    def __init__(self, codes: Mapping[str, FixedCode]) -> None:
        self._codes = {email.lower(): code for email, code in codes.items()}

    def has(self, scope: CodeScope, now: int) -> bool:
        """Return whether the code of a scope is fixed now."""
        return self._find(scope, now) is not None

    def is_right(self, scope: CodeScope, typed: str, now: int) -> bool:
        """Compare a typed text with the fixed code of a scope; without one it is wrong."""
        fixed = self._find(scope, now)
        given = normalise(typed).encode("ascii", "replace")
        return fixed is not None and hmac.compare_digest(fixed.code.encode(), given)

    def expired(self, now: datetime) -> Mapping[str, datetime]:
        """Return the end of each address whose code has expired."""
        return {email: each.until for email, each in self._codes.items() if each.until <= now}

    def __len__(self) -> int:
        return len(self._codes)

    def _find(self, scope: CodeScope, now: int) -> FixedCode | None:
        fixed = self._codes.get(scope.recipient)
        if fixed is None or fixed.until.timestamp() * SECOND_MS <= now:
            return None
        return fixed


NO_FIXED_CODES = FixedCodes({})
