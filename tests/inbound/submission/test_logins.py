"""Tests of logins: what is asked, what is kept, and how guesses are slowed."""

from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest

from services.inbound.submission.logins import (
    ADDRESS_GUESSES,
    ADDRESS_SECONDS,
    CLIENT_GUESSES,
    KEPT_SECONDS,
    MAX_KEPT,
    ClientLogin,
    Logins,
    TooManyGuesses,
)
from shared.contracts import EmailDescribed
from shared.contracts.message import Contract
from shared.errors import NoAnswer, Unavailable
from tests.inbound.doors import KEY, NOW, SHOP, Clients

RIGHT = ClientLogin("shop", KEY, "192.0.2.1")
WRONG = replace(RIGHT, key="wrong")


@dataclass
class Checked:
    """Logins with a gateway and a clock of a test."""

    clients: Clients = field(default_factory=Clients)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.logins = Logins(
            self.clients.ask,
            b"k" * 32,
            lambda: self.seconds,
            lambda: NOW + timedelta(seconds=self.seconds),
        )


async def test_kept() -> None:
    """A right login is asked for once a minute, and counts on while the gateway is away."""
    checked = Checked()
    for _ in range(3):
        assert await checked.logins.check(RIGHT) == SHOP
    assert len(checked.clients.asked) == 1

    checked.clients.is_away, checked.seconds = True, KEPT_SECONDS - 1
    assert await checked.logins.check(RIGHT) == SHOP
    checked.seconds = KEPT_SECONDS
    with pytest.raises(Unavailable):
        await checked.logins.check(RIGHT)
    checked.clients.is_away, checked.clients.client = False, None
    assert await checked.logins.check(RIGHT) is None


async def test_other_logins() -> None:
    """An answer counts for its client, its key and its address alone."""
    checked = Checked()
    assert await checked.logins.check(RIGHT) == SHOP
    for other in (WRONG, replace(RIGHT, client="bank"), replace(RIGHT, remote="192.0.2.2")):
        await checked.logins.check(other)

    assert len(checked.clients.asked) == 4
    assert checked.clients.asked[-1].remote == "192.0.2.2"


async def test_no_secrets() -> None:
    """No key is kept, and none is shown."""
    checked = Checked()
    await checked.logins.check(replace(RIGHT, key=KEY))

    assert KEY not in repr(vars(checked.logins))
    assert KEY not in repr(RIGHT)


async def test_end() -> None:
    """A client whose time is over cannot log in, though its answer is kept."""
    checked = Checked()
    checked.clients.client = SHOP.model_copy(update={"expires_at": NOW + timedelta(seconds=5)})
    assert await checked.logins.check(RIGHT) is not None
    checked.seconds = 5
    assert await checked.logins.check(RIGHT) is None


async def test_guesses_of_an_address() -> None:
    """An address must wait after wrong keys; a program elsewhere, and a kept login, need not."""
    checked = Checked()
    assert await checked.logins.check(RIGHT) == SHOP
    for _ in range(ADDRESS_GUESSES):
        assert await checked.logins.check(WRONG) is None
    with pytest.raises(TooManyGuesses):
        await checked.logins.check(WRONG)

    assert await checked.logins.check(RIGHT) == SHOP
    assert await checked.logins.check(replace(RIGHT, remote="192.0.2.2")) == SHOP
    checked.seconds = ADDRESS_SECONDS
    assert await checked.logins.check(WRONG) is None


async def test_guesses_at_a_client() -> None:
    """Guesses from many addresses at one client are slowed too, and other clients are not."""
    checked = Checked()
    for number in range(CLIENT_GUESSES):
        assert await checked.logins.check(replace(WRONG, remote=f"192.0.2.{number}")) is None
    with pytest.raises(TooManyGuesses):
        await checked.logins.check(replace(WRONG, remote="198.51.100.1"))

    assert await checked.logins.check(replace(WRONG, client="x", remote="198.51.100.1")) is None


async def test_memory() -> None:
    """The number of kept answers is bounded."""
    checked = Checked()
    for number in range(MAX_KEPT + 1):
        await checked.logins.check(replace(RIGHT, remote=str(number)))

    assert await checked.logins.check(replace(RIGHT, remote="0")) == SHOP
    assert len(checked.clients.asked) == MAX_KEPT + 2


async def test_another_answer() -> None:
    """An answer of another kind is no answer."""

    async def ask(question: Contract) -> Contract:
        return EmailDescribed(id=question.id)

    logins = Logins(ask, b"k" * 32, lambda: 0.0, lambda: NOW)
    with pytest.raises(NoAnswer):
        await logins.check(RIGHT)
