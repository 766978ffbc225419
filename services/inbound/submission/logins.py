"""Logins: whose key a password is. The gateway knows; its answers are kept for a minute."""

import hashlib
import hmac
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime

from services.inbound.submission.limits import LeakyBuckets
from shared.contracts import AuthenticateClient, AuthenticatedClient, ClientAuthenticated, Contract
from shared.errors import NoAnswer

KEPT_SECONDS = 60.0  # so long a revoked key still works
MAX_KEPT = 10_000
# Keys have 256 bits, so no guess is right. The limits keep guesses away from the gateway; a client
# that others guess at is not locked out, since its own answer is kept.
ADDRESS_GUESSES, ADDRESS_SECONDS = 10, 10.0
CLIENT_GUESSES, CLIENT_SECONDS = 100, 1.0

Ask = Callable[[Contract], Awaitable[Contract]]


class TooManyGuesses(Exception):
    """So many keys were wrong that none is checked for now."""


@dataclass(frozen=True, slots=True)
class ClientLogin:
    """A client's id and its key, as a program sends them; `remote` is the program's address."""

    client: str
    key: str = field(repr=False)
    remote: str


class Logins:
    """Checks logins. Answers are kept by a hash with `secret`, so that no key stays in memory."""

    def __init__(
        self,
        ask: Ask,
        secret: bytes,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._ask = ask
        self._secret = secret
        self._clock = clock
        self._now = now
        self._kept: OrderedDict[bytes, tuple[AuthenticatedClient, float]] = OrderedDict()
        self._by_address = LeakyBuckets(ADDRESS_GUESSES, ADDRESS_SECONDS)
        self._by_client = LeakyBuckets(CLIENT_GUESSES, CLIENT_SECONDS)

    async def check(self, login: ClientLogin) -> AuthenticatedClient | None:
        """Return the client of a login, None if it is wrong.

        Raises TooManyGuesses, and Unavailable or NoAnswer when the gateway cannot be asked.
        """
        digest = self._digest(login)
        client = self._known(digest) or await self._asked(login)
        if client is None or (client.expires_at is not None and client.expires_at <= self._now()):
            self._kept.pop(digest, None)
            return None
        if digest not in self._kept:
            self._keep(digest, client)
        return client

    def _known(self, digest: bytes) -> AuthenticatedClient | None:
        client, until = self._kept.get(digest, (None, 0.0))
        if client is not None and self._clock() >= until:
            del self._kept[digest]
            return None
        return client

    async def _asked(self, login: ClientLogin) -> AuthenticatedClient | None:
        """Ask the gateway. A wrong key counts at its end, so guesses at one time count too."""
        now = self._clock()
        if self._by_address.wait(login.remote, now) or self._by_client.wait(login.client, now):
            raise TooManyGuesses
        client = await self._answer(login)
        if client is None:
            now = self._clock()
            self._by_address.add(login.remote, now)
            self._by_client.add(login.client, now)
        return client

    async def _answer(self, login: ClientLogin) -> AuthenticatedClient | None:
        try:
            question = AuthenticateClient(
                id=str(uuid.uuid4()), client=login.client, key=login.key, remote=login.remote
            )
        except ValueError:  # no client and no key has this form
            return None
        answer = await self._ask(question)
        if not isinstance(answer, ClientAuthenticated):
            raise NoAnswer("another answer than that to client.authenticate")
        return answer.client

    def _keep(self, digest: bytes, client: AuthenticatedClient) -> None:
        self._kept[digest] = client, self._clock() + KEPT_SECONDS
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def _digest(self, login: ClientLogin) -> bytes:
        text = f"{login.client}\x00{login.key}\x00{login.remote}"
        return hmac.digest(self._secret, text.encode(errors="replace"), hashlib.sha256)
